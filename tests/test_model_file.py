"""Modules of users' own networks that cannot be imported."""

from pathlib import Path

import pytest

from simplenet.errors import ArchiveError
from simplenet.model_file import load_network


@pytest.mark.parametrize("code", ["raise SystemExit(0)", "import sys; sys.exit('bye')", "raise ValueError('no')"])
def test_a_module_that_ends_the_program_is_an_error_of_one_line(tmp_path: Path, code: str) -> None:
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(ArchiveError, match=r"net\.py: cannot be imported: (SystemExit|ValueError): ") as caught:
        load_network(tmp_path / "net.py", "Net")
    assert "\n" not in str(caught.value)
