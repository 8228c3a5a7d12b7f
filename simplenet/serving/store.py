"""Which archives a server will serve, and a request that shows each of them working."""

from pathlib import Path

import orjson

from simplenet.archive import DEFAULT_PROFILE, create_archive, read_archive, with_profile
from simplenet.checkpoint.keys import GOLDEN
from simplenet.errors import ServerError
from simplenet.inspection import describe
from simplenet.resources import resource

SAMPLE_DIGIT = "data/digit.png"  # a real 7
SAMPLE_INPUT_SIZE = 28 * 28


def collect_archives(run_dir: Path, model_store: Path, checkpoint: Path | None, profile: str | None) -> dict[str, Path]:
    """Verify what is to be served: the store's archives, or one made of `checkpoint` in the run directory.

    Args:
        run_dir: of the server; its folder `models` takes what is made here.
        model_store: folder of .mar files.
        checkpoint: serve this one instead, as `simplenet`.
        profile: replaces the archives' own where given.

    Returns:
        Model name to archive, all in one folder.

    Raises:
        SimpleNetError: there is nothing to serve, or an archive or checkpoint is refused.
    """
    made = run_dir / "models"
    if checkpoint is not None:
        archive = create_archive(checkpoint, export_path=made, profile=profile or DEFAULT_PROFILE)
        return {"simplenet": archive}
    files = sorted(model_store.glob("*.mar"))
    if not files:
        raise ServerError(f"{model_store}: expected .mar files, found none; make one with simplenet archive")
    names: dict[str, Path] = {}
    for file in files:
        describe(file)
        name = read_archive(file).model_name
        if name in names:
            raise ServerError(f"{file}: expected one archive a model, found {names[name].name} for {name!r} too")
        names[name] = file
    if profile is not None:
        for name, file in names.items():
            with_profile(file, profile, made / file.name)
            names[name] = made / file.name
    return names


def sample_request(archive: Path, folder: Path) -> tuple[str, Path]:
    """A request that the model answers: the bundled digit where it takes images of 28 x 28, else a golden row.

    Returns:
        Its Content-Type and the file with its body.
    """
    golden = read_archive(archive).checkpoint[GOLDEN]
    if golden["inputs"].shape[1] == SAMPLE_INPUT_SIZE:
        return "image/png", resource(SAMPLE_DIGIT)
    file = folder / f"{archive.stem}.json"
    file.write_bytes(orjson.dumps({"instances": golden["inputs"][:1].tolist()}))
    return "application/json", file
