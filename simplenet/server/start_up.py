"""Start a server of the archives that can be served, and wait until it is ready.

The archives are verified while Java starts, which costs no time where all are good. Where one is not, or its workers
cannot load it, the server is started again without it: TorchServe would try for minutes to load it, and its management
cannot remove a model while that goes on.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from simplenet.errors import ServerError, SimpleNetError
from simplenet.server.disk import require_space
from simplenet.server.lifecycle import end_processes, started
from simplenet.server.model_store import Refuse, leave_out, verified_samples
from simplenet.server.ready import wait_until_ready
from simplenet.server.record import Server
from simplenet.server.root_cause import failed_models
from simplenet.server.run_dir import renew

Samples = dict[str, tuple[str, Path]]  # of each model, the Content-Type and the file of a valid request


@contextmanager
def ready_server(
    archives: Mapping[str, Path], run_dir: Path, refuse: Refuse | None = None, **options: Any
) -> Iterator[tuple[Server, Samples]]:
    """Start a server and wait until it is ready; if the body raises, it is stopped.

    Args:
        archives: model name to the .mar file.
        run_dir: from `new_run_dir`.
        refuse: called with the error of each archive that cannot be served, which is left out; by default it is raised.
        options: more arguments of `start`.

    Returns:
        The server, and a valid request for each of its models.

    Raises:
        SimpleNetError: an archive is refused and none is left, or the server cannot be started.
    """
    left = dict(archives)
    while True:
        require_space(run_dir, left.values())
        begun = time.monotonic()
        with started(left, run_dir=run_dir, **options) as server:
            samples, refused = _verified(left, run_dir)
            if not refused:
                refused = _refused_by_workers(server, lenient=refuse is not None)
            left = {name: path for name, path in left.items() if name not in refused}
            leave_out(list(refused.values()), len(left), refuse)
            if not refused:
                yield replace(server, start_up_s=time.monotonic() - begun), samples
                return
            end_processes(server)
        renew(run_dir)


def _verified(archives: Mapping[str, Path], run_dir: Path) -> tuple[Samples, dict[str, SimpleNetError]]:
    """The samples of the archives that are in order, and the errors of the others."""
    samples: Samples = {}
    refused: dict[str, SimpleNetError] = {}
    for name, path in archives.items():
        try:
            samples.update(verified_samples({name: path}, run_dir))
        except SimpleNetError as error:
            refused[name] = error
    return samples, refused


def _refused_by_workers(server: Server, lenient: bool) -> dict[str, SimpleNetError]:
    """Wait until the server is ready; the models that its workers cannot load, while there are others.

    Raises:
        ServerError: it does not become ready for another reason.
    """
    try:
        wait_until_ready(server)
    except ServerError:
        failed = failed_models(server.logs, server.models)
        if not lenient or not failed or len(failed) == len(server.models):
            raise
        return {name: ServerError(f"{name}: the model cannot be loaded: {cause}") for name, cause in failed.items()}
    return {}
