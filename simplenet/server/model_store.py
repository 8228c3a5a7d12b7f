"""The model store: collect the archives to serve, verify them, and find a sample request for each.

Torch, whose import takes seconds, is imported inside functions: the archives are verified while TorchServe starts.
"""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import orjson

from simplenet.archive import Archive, create_archive, read_archive
from simplenet.archive.profile import DEFAULT_PROFILE, with_profile
from simplenet.errors import ArchiveError, ServerError, SimpleNetError
from simplenet.manifest import is_archive, read_manifest
from simplenet.media_types import JSON, PNG
from simplenet.paths import MODEL_STORE, PathLike, resource
from simplenet.server.disk import naming
from simplenet.server.history import KEPT, STATE, read_state
from simplenet.server.kept_archives import contents_hash, forgotten
from simplenet.server.origin import note_origin
from simplenet.settings import DEFAULT_MODEL_NAME
from simplenet.signals import check_interrupted
from simplenet.storage import download, is_remote, list_objects, local_copy

logger = logging.getLogger(__name__)
SAMPLE_DIGIT = "data/digit.png"  # a real 7
SAMPLE_SIDE = 28


Refuse = Callable[[SimpleNetError], None]  # told of an archive that is left out


def collect_archives(
    run_dir: Path,
    model_store: PathLike,
    checkpoint: PathLike | None,
    profile: str | None,
    refuse: Refuse | None = None,
    **packing: Any,
) -> dict[str, Path]:
    """Collect the archives to serve: those of the model store, or one packed from `checkpoint`.

    Args:
        run_dir: of the server; packed and downloaded archives go into its folder `models`.
        model_store: folder of .mar files, or s3://bucket/prefix.
        checkpoint: serve this instead, as `simplenet`; a path or an s3:// address.
        profile: replaces that of the archives, if given.
        refuse: called with the error of each file that is not an archive, which is left out; by default it is raised.
        packing: more arguments of `create_archive`, for `checkpoint`.

    Returns:
        Model name to archive.

    Raises:
        SimpleNetError: there is nothing to serve, or the checkpoint is refused.
    """
    models = run_dir / "models"
    if checkpoint is not None:
        with local_copy(checkpoint) as file:
            chosen = profile or DEFAULT_PROFILE
            return {DEFAULT_MODEL_NAME: create_archive(file, export_path=models, profile=chosen, **packing)}
    files, home = _archives_in(model_store, models), None if is_remote(model_store) else Path(model_store)
    say = packing.get("say", logger.warning)
    names, files = _live_archives(home, files, say) if home else ({}, files)
    refused: list[SimpleNetError] = []
    for file in files:
        try:
            name = read_manifest(file).model_name
        except ArchiveError as error:
            refused.append(error)
            continue
        if name in names:
            raise ServerError(f"{file}: expected one archive per model, found {names[name].name} for {name!r} too")
        names[name] = file
    leave_out(refused, left=len(names), refuse=refuse)
    if not names:
        copies = f", or copy one from {home / KEPT} to {home}" if home and forgotten(home) else ""
        raise ServerError(f"{model_store}: expected .mar files, found none; make one with simplenet archive{copies}")
    if home is not None:
        _say_forgotten(home, names, say)
    note_origin(run_dir, home, profile, names)
    if profile is not None:
        for name, file in names.items():
            with naming(models / file.name):
                with_profile(file, profile, models / file.name)
            names[name] = models / file.name
    return names


def _say_forgotten(home: Path, names: Mapping[str, Path], say: Callable[[str], None]) -> None:
    """Say how to make live again what was deployed, where the state file that says so is missing."""
    for name, file in forgotten(home).items():
        if name not in names or contents_hash(file) != contents_hash(names[name]):
            say(
                f"{home / STATE} is missing, so what was deployed is not served; it stays in {home / KEPT}; when the "
                f"server runs, make {name} {read_manifest(file).version} live with "
                f"simplenet deploy {shlex.quote(str(file))}"
            )


def leave_out(refused: Sequence[SimpleNetError], left: int, refuse: Refuse | None) -> None:
    """Leave out the archives that were refused, or raise the reason.

    Args:
        refused: the error of each.
        left: how many others there are.
        refuse: called with each error; None if every archive has to be served.

    Raises:
        SimpleNetError: the only one's error, or the first if every archive has to be served; or none is left.
    """
    if not refused:
        return
    if refuse is None or (not left and len(refused) == 1):
        raise refused[0]
    for error in refused:
        refuse(error)
    if not left:
        raise ServerError(f"none of the {len(refused)} archives can be served; make them anew with simplenet archive")


def is_default(model_store: PathLike) -> bool:
    """Whether this is the model store that is made, and filled with the sample model, where nothing else is there."""
    return not is_remote(model_store) and Path(model_store).resolve() == MODEL_STORE.resolve()


def is_empty(model_store: PathLike) -> bool:
    """Whether a local model store has no archives or does not exist."""
    if is_remote(model_store) or any(Path(model_store).glob("*.mar")):
        return False
    return not any(history.live.path.is_file() for history in read_state(Path(model_store)).values())


def require_folder(model_store: PathLike) -> None:
    """Refuse a local model store that is not there: a typing error must not serve the sample model.

    Raises:
        ServerError: it is no folder.
    """
    if not is_remote(model_store) and not Path(model_store).is_dir():
        found = "a file" if Path(model_store).exists() else "none"
        raise ServerError(
            f"{model_store}: expected a folder of .mar files, found {found}; correct --model-store, or make one: "
            f"simplenet archive CHECKPOINT --export-path {model_store}"
        )


def require_writable(model_store: PathLike) -> None:
    """Refuse an empty model store to which the sample model cannot be written.

    Raises:
        ServerError: it is refused, with the reason.
    """
    folder = Path(model_store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ServerError(
            f"{model_store}: expected .mar files, or a folder that the sample model can be written to; "
            f"found none, and {error.strerror}; name another with --model-store"
        ) from error


def verified_samples(archives: Mapping[str, Path], folder: Path) -> dict[str, tuple[str, Path]]:
    """Verify every archive without running its code.

    Returns:
        The `sample_request` of each model, by name.

    Raises:
        SimpleNetError: an archive is refused.
    """
    return {name: sample_request(verified_archive(file), folder) for name, file in archives.items()}


def verified_archive(file: PathLike) -> Archive:
    """Read and verify an archive without running its code.

    Raises:
        SimpleNetError: it is refused.
    """
    _refuse_other_files(Path(file))
    try:
        from simplenet.checkpoint.verify import require_whole, verify

        archive = read_archive(file)
        verified = verify(archive.checkpoint, str(archive.path), archive.model_file)
        require_whole(str(archive.path), verified.findings)
    finally:
        check_interrupted()  # the import of torch may have cleared it, and left numpy in part
    return archive


def _refuse_other_files(file: Path) -> None:
    """Refuse what is no archive, with what it is.

    Raises:
        ArchiveError: it is none.
    """
    if not file.exists() or is_archive(file):
        return
    if file.is_dir():
        raise ArchiveError(f"{file}: expected a .mar file, found a folder; name a file in it")
    if not file.is_file():
        raise ArchiveError(f"{file}: expected a .mar file, found no regular file; make one with simplenet archive")
    raise ArchiveError(
        f"{file}: expected a .mar file, found another kind; if it is a checkpoint, pack it first: "
        f"simplenet archive {shlex.quote(str(file))} --version VERSION"
    )


def sample_request(archive: Archive, folder: Path) -> tuple[str, Path]:
    """A request that the model accepts: the bundled digit if it takes images of 28 x 28, else a golden row.

    Returns:
        Its Content-Type and the file with its body.
    """
    from simplenet.checkpoint.keys import GOLDEN
    from simplenet.preprocessing import InputSpec
    from simplenet.worker.model_spec import ModelSpec

    row = archive.checkpoint[GOLDEN]["inputs"][:1]
    shape = InputSpec.from_checkpoint(archive.checkpoint, str(archive.path)).shape
    if ModelSpec(row.shape[1], (), shape).side == SAMPLE_SIDE:
        return PNG, resource(SAMPLE_DIGIT)
    file = folder / f"{archive.path.stem}-sample.json"  # never server.json, whatever the archive is called
    with naming(file):
        file.write_bytes(orjson.dumps({"instances": row.tolist()}))
    return JSON, file


def _archives_in(model_store: PathLike, fetched: Path) -> list[Path]:
    """The archives in the model store; those in a bucket are downloaded into `fetched`."""
    if not is_remote(model_store):
        return sorted(Path(model_store).glob("*.mar"))
    for stored in list_objects(model_store):
        if not stored.address.endswith(".mar"):
            continue
        target = fetched / Path(stored.address).name
        if target.exists():
            raise ServerError(f"{stored.address}: expected one archive of that name in {model_store}, found two")
        download(stored.address, target)
    return sorted(fetched.glob("*.mar"))


def _live_archives(home: Path, files: Sequence[Path], say: Callable[[str], None]) -> tuple[dict[str, Path], list[Path]]:
    """Which archives a model store serves: of a model that was deployed, the live one, whatever else is there.

    Args:
        home: the model store.
        files: the archives that the user put there.
        say: called with one line for each archive that is left out though it was never deployed.

    Returns:
        Model name to archive, of the models that were deployed; and those of `files` that are of other models.

    Raises:
        ServerError: the state is garbled.
    """
    histories = read_state(home)
    live, others = {}, []
    for name, history in histories.items():
        if history.live.path.is_file():
            live[name] = history.live.path
        else:
            say(f"{home / STATE}: {name} {history.live.version}: its archive {history.live.path} is gone")
    for file in files:
        try:
            archive = read_manifest(file)
        except ArchiveError:  # the caller says so
            others.append(file)
            continue
        if archive.model_name not in live:
            others.append(file)
            continue
        history = histories[archive.model_name]
        if contents_hash(file) not in {release.contents for release in history.releases()}:
            say(
                f"{file}: {archive.model_name} {archive.version} is not served: {history.live.version} is deployed; "
                f"make it live with simplenet deploy {shlex.quote(str(file))}"
            )
    return live, others
