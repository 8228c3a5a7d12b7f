"""Whether the disk has room, on real file systems."""

import resource
import subprocess
import sys

import pytest

from simplenet.server.disk import LOGS_BYTES, needed_bytes, require_space, require_writable_disk


def test_a_server_needs_its_archives_unpacked_and_its_logs(sample_archive, tmp_path):
    assert needed_bytes([]) == LOGS_BYTES
    assert needed_bytes([sample_archive]) > LOGS_BYTES + sample_archive.stat().st_size // 2
    require_space(tmp_path, [sample_archive])
    require_writable_disk(tmp_path)
    assert list(tmp_path.iterdir()) == []


FILL = """
import sys
from pathlib import Path
from simplenet.errors import ServerError
from simplenet.server.disk import require_space, require_writable_disk
folder = Path(sys.argv[1])
for check in (lambda: require_space(folder, []), lambda: require_writable_disk(folder)):
    try:
        check()
    except ServerError as error:
        print(error)
    (folder / "rest").write_bytes(b"")
    try:
        with (folder / "rest").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError:
        pass
"""


def test_a_full_file_system_is_named_with_what_is_needed_and_free(tmp_path):
    script = f'mount -t tmpfs -o size=1m none "{tmp_path}" && exec "{sys.executable}" -c "$1" "{tmp_path}"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", FILL],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("this user may not mount a file system")
    before, while_running = done.stdout.splitlines()
    remedy = "free some, or set XDG_STATE_HOME to a folder on another disk"
    assert before == f"{tmp_path}: no space left on the disk: 50 MB needed, 1 MB free; {remedy}"
    assert while_running == f"{tmp_path}: no space left on device: 50 MB needed, 0 MB free; {remedy}"


def test_a_limit_that_free_space_does_not_show_is_found_by_writing(tmp_path):
    """As with a quota: the file system has room, and this process may not use it."""
    program = """
import sys
from pathlib import Path
from simplenet.server.disk import require_writable_disk
require_writable_disk(Path(sys.argv[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )  # fmt: skip
    assert f"ServerError: {tmp_path}: " in done.stderr
    assert "50 MB needed" in done.stderr


def test_another_fault_of_the_disk_is_its_own(tmp_path):
    with pytest.raises(FileNotFoundError):
        require_writable_disk(tmp_path / "missing")
