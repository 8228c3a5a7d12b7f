"""A version on its way to being live: what TorchServe gets, and what the server's record says once it is."""

from dataclasses import dataclass, replace

from simplenet.archive import Archive
from simplenet.archive.profile import with_profile
from simplenet.manifest import read_manifest
from simplenet.server.disk import naming
from simplenet.server.gpus import count_gpus, workers_of
from simplenet.server.history import Release
from simplenet.server.model_config import response_timeout_of, whole_number
from simplenet.server.model_store import sample_request
from simplenet.server.ready import writes_state
from simplenet.server.record import Server


@dataclass(frozen=True)
class Candidate:
    """A version on its way to being live."""

    archive: Archive  # verified, as TorchServe gets it
    file: str  # its name in TorchServe's model store
    workers: int
    content_hash: str  # of the weights

    @property
    def name(self) -> str:
        """Model and version, as in messages."""
        return f"{self.archive.model_name} {self.archive.version}"

    @property
    def path(self) -> str:
        """Of this version in the management API."""
        return f"/models/{self.archive.model_name}/{self.archive.version}"


def candidate_of(server: Server, profile: str | None, archive: Archive, release: Release) -> Candidate:
    """What TorchServe gets: the archive, with the profile that the server was started with.

    Args:
        server: a running one.
        profile: that replaces the archives' own, from `read_origin`.
        archive: verified.
        release: of it.
    """
    from simplenet.checkpoint.keys import CONTENT_HASH, METADATA

    path = release.path
    if profile is not None:
        path = server.run_dir / "models" / path.name
        with naming(path):
            with_profile(release.path, profile, path)
    settings = read_manifest(path).settings
    chosen = server.model_workers.get(archive.model_name)
    return Candidate(
        replace(archive, path=path, settings=settings),
        f"version-{release.contents[:12]}.mar",
        workers_of(settings, chosen, count_gpus()),
        str(archive.checkpoint[METADATA][CONTENT_HASH]),
    )


def with_version(server: Server, candidate: Candidate) -> Server:
    """The server's record once this version of its model is live."""
    archive = candidate.archive
    model = archive.model_name
    content_type, sample = sample_request(archive, server.run_dir)
    silent = {*server.silent_models, model} if not writes_state(archive.path) else {*server.silent_models} - {model}
    return replace(
        server,
        models=tuple(dict.fromkeys((*server.models, model))),
        versions={**server.versions, model: archive.version},
        model_workers={**server.model_workers, model: candidate.workers},
        silent_models=tuple(sorted(silent)),
        startup_timeout_s=max(server.startup_timeout_s, whole_number(archive.settings, "startupTimeout")),
        response_timeout_s=max(server.response_timeout_s, response_timeout_of(archive.settings)),
        samples={**server.samples, model: (content_type, str(sample))},
    )
