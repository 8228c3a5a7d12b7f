"""No file imports a floor above itself: what each room may use is listed here once.

A change that fails here either belongs in another room, or needs the part that both rooms use on a floor below.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import simplenet

PACKAGE = Path(simplenet.__file__).parent
# Lowest first; a name stands for the module, or for the package with everything in it.
FLOORS = (
    ("errors",),
    ("text",),
    ("settings", "media_types", "paths", "signals"),
    ("atomic", "manifest", "model", "model_file", "content_hash", "golden", "preprocessing", "storage", "s3"),
    ("checkpoint",),
    ("archive", "inspection"),
    ("training", "worker", "client"),
    ("server",),
    ("cli",),
    ("__init__",),  # the public names
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
APART = {"training", "worker", "client"}  # none of them imports another


def room_of(module: str) -> str:
    """`simplenet.checkpoint.save` is in the room `checkpoint`; `simplenet` itself is `__init__`."""
    return module.split(".")[1] if "." in module else "__init__"


def imports_in(source: str, package: str, modules: set[str]) -> Iterator[str]:
    """Every module of ours that the source imports, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
            names = [name if name in modules else origin for name in names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "simplenet")


def violations(package: Path) -> list[str]:
    """Each import of a floor above, and each file that is on no floor, in a line that says what to do."""
    files = {module_name(file, package): file for file in sorted(package.rglob("*.py"))}
    lines = []
    for module, file in files.items():
        room, where = room_of(module), file.relative_to(package.parent)
        if room not in FLOOR_OF:
            lines.append(
                f"{where}: is on no floor; move it into a room, or add {room!r} to FLOORS in {Path(__file__).name}"
            )
            continue
        parent = module if file.name == "__init__.py" else module.rpartition(".")[0]
        for imported in imports_in(file.read_text(), parent, set(files)):
            target = room_of(imported)
            if target not in FLOOR_OF:
                lines.append(f"{where}: imports {imported}, which is on no floor")
            elif FLOOR_OF[target] > FLOOR_OF[room]:
                lines.append(f"{where}: imports {imported} from the floor of {target!r}, above that of {room!r}")
            elif target != room and {target, room} <= APART:
                lines.append(f"{where}: imports {imported}; {', '.join(sorted(APART))} do not import each other")
    return lines


def module_name(file: Path, package: Path) -> str:
    parts = [package.name, *file.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_file_imports_a_floor_above_itself() -> None:
    found = violations(PACKAGE)
    assert not found, "\n".join(found)


def test_every_floor_lists_rooms_that_exist() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert set(FLOOR_OF) == rooms


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("checkpoint/save.py", "from simplenet.server.run_dir import new_run_dir", "above that of 'checkpoint'"),
        ("checkpoint/save.py", "def f():\n    import simplenet.archive.create", "above that of 'checkpoint'"),
        ("checkpoint/save.py", "from simplenet import archive", "imports simplenet.archive from the floor"),
        ("checkpoint/save.py", "from simplenet import SimpleNet", "imports simplenet from the floor of '__init__'"),
        ("checkpoint/save.py", "from ..archive import create", "imports simplenet.archive.create from the floor"),
        ("checkpoint/save.py", "from .. import archive", "imports simplenet.archive from the floor"),
        ("worker/decode.py", "from simplenet.training.data import load_split", "do not import each other"),
        (
            "text.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from simplenet.paths import PathLike",
            "above that of 'text'",
        ),
        ("novel.py", "", "is on no floor; move it into a room, or add 'novel' to FLOORS in test_floors.py"),
        ("text.py", "from simplenet.novel import x", "imports simplenet.novel, which is on no floor"),
        ("cli/app.py", "from simplenet.checkpoint import save\nfrom .tables import as_json\nimport os", None),
    ],
)
def test_a_wrong_import_is_told_with_its_file(tmp_path: Path, name: str, source: str, message: str | None) -> None:
    package = tmp_path / "simplenet"
    for path in ("archive/__init__.py", "archive/create.py", "cli/tables.py", "checkpoint/__init__.py"):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).touch()
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).write_text(source)
    lines = violations(package)
    if message is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(f"simplenet/{name}: ")
        assert message in line
