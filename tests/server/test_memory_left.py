"""How much memory is left for more workers, by trees of files like those of real machines, and what is refused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest

from simplenet.archive import read_archive
from simplenet.errors import ServerError
from simplenet.server.candidate import Candidate
from simplenet.server.memory import GIB, MIB, SERVE, worker_bytes
from simplenet.server.memory_left import memory_left, require_memory
from simplenet.server.record import Server

V1 = "12:cpu:/a\n4:memory:{0}\n0::/\n"
V2 = "0::{0}\n"
CACHE = f"anon 5\ninactive_file {GIB}\nactive_file {2 * GIB}\n"
CACHE_V1 = f"inactive_file 5\ntotal_inactive_file {GIB}\n"


def server_of(pid: int, **fields) -> Server:
    return Server(9000, pid, psutil.Process(pid).create_time(), ("simplenet",), versions={"simplenet": "1"}, **fields)


def machine(root, group: str, files: dict[str, str]):
    """A file system with the cgroup of this process."""
    for name, content in {f"proc/{os.getpid()}/cgroup": group, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def container(root, limit: int, used: int, group: str = "/"):
    """A file system with a cgroup v2 of this process that has a limit."""
    files = {"memory.max": f"{limit}", "memory.current": f"{used}", "memory.stat": ""}
    return machine(root, V2.format(group), {f"sys/fs/cgroup{group}/{name}": files[name] for name in files})


@pytest.fixture
def candidate(sample_archive) -> Candidate:
    return Candidate(read_archive(sample_archive), "version-0.mar", 3, "hash")


@pytest.mark.parametrize(
    ("group", "files", "left"),
    [
        pytest.param(V2.format("/"), {}, [9 * GIB], id="v2, no limit"),
        pytest.param(
            V2.format("/"),
            {"memory.max": f"{4 * GIB}\n", "memory.current": f"{3 * GIB}\n", "memory.stat": CACHE},
            [9 * GIB, 2 * GIB],
            id="v2, what is only cached is left",
        ),
        pytest.param(
            V2.format("/a/b"),
            {
                "a/b/memory.max": f"{4 * GIB}", "a/b/memory.current": f"{GIB}", "a/b/memory.stat": "anon 5\n",
                "a/memory.max": f"{5 * GIB}", "a/memory.current": f"{5 * GIB}", "a/memory.stat": "inactive_file 7\n",
            },
            [9 * GIB, 3 * GIB, 7],
            id="v2, the parent is full",
        ),
        pytest.param(
            V2.format("/"),
            {"memory.max": f"{GIB}", "memory.current": f"{2 * GIB}", "memory.stat": "anon 5\n"},
            [9 * GIB, 0],
            id="v2, lowered below what is in use",
        ),
        pytest.param(V2.format("/"), {"memory.max": f"{GIB}"}, [9 * GIB], id="v2, the usage cannot be read"),
        pytest.param(
            V1.format("/docker/1"),
            {
                "memory/memory.limit_in_bytes": f"{4 * GIB}",
                "memory/memory.usage_in_bytes": f"{2 * GIB}",
                "memory/memory.stat": CACHE_V1,
            },
            [9 * GIB, 3 * GIB],
            id="v1, a container",
        ),
    ],
)  # fmt: skip
def test_each_limit_leaves_what_is_not_in_use(tmp_path, group, files, left):
    root = machine(tmp_path, group, {f"sys/fs/cgroup/{name}": content for name, content in files.items()})
    assert [each.size for each in memory_left(server_of(os.getpid()), root, 9 * GIB)] == left


def test_the_cgroup_of_the_server_counts_and_not_that_of_whoever_deploys(tmp_path):
    root = container(tmp_path, GIB, 0, "/server")
    (root / "proc" / "self").mkdir()
    (root / "proc" / "self" / "cgroup").write_text(V2.format("/user"))
    assert [each.size for each in memory_left(server_of(os.getpid()), root, 9 * GIB)] == [9 * GIB, GIB]


@contextmanager
def using(size: int) -> Iterator[int]:
    """The pid of a process whose child has filled so many bytes."""
    fill = f"import sys; kept = b'1' * {size}; print(flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {fill!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()  # the child ends, then its parent


def test_what_the_servers_processes_use_counts_against_the_memory_that_it_was_given(tmp_path):
    given = SERVE + 500 * MIB
    with using(200 * MIB) as pid:
        _, of_given = memory_left(server_of(pid, memory_limit=given), tmp_path)
    assert 200 * MIB < of_given.size < 300 * MIB
    assert of_given.of == "the 700 MiB of SIMPLENET_MEMORY"


def test_workers_that_fit_are_let_in(tmp_path, candidate):
    needed = 3 * worker_bytes(candidate.archive.path.stat().st_size)
    root = container(tmp_path, needed + 5, 5)
    require_memory(server_of(os.getpid()), candidate, candidate.archive.path, root)
    (root / "sys/fs/cgroup/memory.current").write_text("6")
    with pytest.raises(ServerError, match="for 3 more workers"):
        require_memory(server_of(os.getpid()), candidate, candidate.archive.path, root)


def refusal(server: Server, candidate: Candidate, root) -> str:
    with pytest.raises(ServerError) as refused:
        require_memory(server, candidate, root / "mine.mar", root)
    return str(refused.value)


def test_workers_that_do_not_fit_are_refused_with_how_many_would(tmp_path, candidate):
    root = container(tmp_path, GIB, GIB - 600 * MIB)
    needed = 3 * worker_bytes(candidate.archive.path.stat().st_size) / MIB
    assert refusal(server_of(os.getpid()), candidate, root) == (
        f"{candidate.name}: expected {needed:.4g} MiB of memory for 3 more workers, "
        f"found 600 MiB left of the 1.0 GiB in {root}/sys/fs/cgroup/memory.max; raise that limit, "
        "or set minWorkers and maxWorkers to 2 in the profile of the archive "
        "(of the server, if it was started with --profile) and deploy that"
    )


def test_where_none_fits_the_server_can_be_started_with_the_new_version_instead(tmp_path, candidate):
    root = container(tmp_path, GIB, GIB - 100 * MIB)
    server = server_of(os.getpid(), model_workers={"simplenet": 3})
    assert refusal(server, candidate, root).endswith(
        "found 100 MiB left of the 1.0 GiB in "
        f"{root}/sys/fs/cgroup/memory.max; raise that limit, or interrupt the service: simplenet stop --port 9000, "
        f"then simplenet serve --port 9000 --model-store FOLDER with {root / 'mine.mar'} in a new FOLDER"
    )
    with_others = replace(server, models=("simplenet", "b"))
    assert refusal(with_others, candidate, root).endswith("and the archives of the other models in a new FOLDER")


@pytest.mark.parametrize("model_workers", [{}, {"simplenet": 2}], ids=["a new model", "more workers than now"])
def test_a_start_that_would_not_fit_either_is_no_remedy(tmp_path, candidate, model_workers):
    server = server_of(os.getpid(), model_workers=model_workers)
    message = refusal(server, candidate, container(tmp_path, GIB, GIB))
    assert message.endswith(f"found 0 MiB left of the 1.0 GiB in {tmp_path}/sys/fs/cgroup/memory.max; raise that limit")
