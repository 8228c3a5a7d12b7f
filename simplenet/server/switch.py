"""Carry out one switch to another version of a model: bring it up, make it the default, let the others finish.

If anything fails before the new version is the default, it is removed, and nothing has changed. If this process is
killed, the next deployment finishes or undoes what it was about (`finish_interrupted`, journal.py).
"""

import time
from contextlib import suppress
from dataclasses import replace

from simplenet.archive import Archive, read_archive
from simplenet.errors import ServerError, SimpleNetError
from simplenet.server import registered
from simplenet.server.candidate import Candidate, candidate_of, with_version
from simplenet.server.deployments import Deployments
from simplenet.server.history import History, from_plain, to_plain
from simplenet.server.journal import Journal, read_journal, remove_journal
from simplenet.server.memory_left import require_memory
from simplenet.server.record import write_record
from simplenet.server.root_cause import log_sizes


def switch(deployments: Deployments, archive: Archive, after: History, keep_workers: bool) -> None:
    """Bring a version up, make it the default, let the others finish.

    Args:
        deployments: of the server.
        archive: the version's, verified.
        after: the model's history once that is live.
        keep_workers: whether the version that was live keeps its workers.

    Raises:
        SimpleNetError: it cannot be served; what was live still is.
    """
    model, version, server = archive.model_name, archive.version, deployments.server
    deployments.remember(after)
    try:
        candidate, journal = _noted(deployments, archive, after, keep_workers)
    except BaseException:
        deployments.prune()
        raise
    begun = time.monotonic()
    try:
        deployments.say(f"{candidate.name}: verified, content hash {candidate.content_hash[:12]}")
        if journal.was_registered:
            registered.wait_until_served(server, candidate, log_sizes(server.logs))
        else:
            require_memory(server, candidate, archive.path)
            _bring_up(deployments, candidate)
        deployments.say(f"{candidate.name}: ready with {candidate.workers} worker{'s' * (candidate.workers > 1)}")
        deployments.write({**deployments.histories, model: after})  # it can fail, so before set_default
        registered.set_default(server, model, version)
    except BaseException as error:
        _undo(deployments, journal)
        if isinstance(error, SimpleNetError) and journal.leaving:
            raise ServerError(f"{error}; {model} {journal.leaving} is still live") from error
        raise
    start_up_s = max(server.start_up_s, time.monotonic() - begun)
    deployments.server = replace(server, start_up_s=start_up_s, versions={**server.versions, model: version})
    _settle(deployments, journal.switched(server.run_dir), candidate, after)


def _noted(deployments: Deployments, archive: Archive, after: History, keep_workers: bool) -> tuple[Candidate, Journal]:
    """What TorchServe gets, and the journal of what is about to happen, which is written."""
    model, version, server = archive.model_name, archive.version, deployments.server
    known = registered.versions_of(server, model)
    candidate = candidate_of(server, deployments.origin.profile, archive, after.live)
    journal = Journal(
        model, version, server.versions.get(model, ""), keep_workers, version in known,
        to_plain(deployments.histories[model], deployments.home) if model in deployments.histories else None,
        to_plain(after, deployments.home),
    )  # fmt: skip
    return candidate, journal.write(server.run_dir)


def finish_interrupted(deployments: Deployments) -> None:
    """Finish or undo the deployment that was killed, if one was."""
    journal = read_journal(deployments.server.run_dir)
    if journal is None:
        return
    deployments.model = journal.model
    both = (journal.before, journal.after)
    deployments.remember(*(from_plain(each, deployments.home) for each in both if each is not None))
    default = registered.default_version(deployments.server, journal.model)
    name = f"{journal.model} {journal.version}"
    if journal.is_live or (journal.leaving and default == journal.version):
        deployments.say(f"{name}: finishing the deployment that was interrupted")
        after = from_plain(journal.after, deployments.home)
        archive = read_archive(after.live.path)
        candidate = candidate_of(deployments.server, deployments.origin.profile, archive, after.live)
        _settle(deployments, journal, candidate, after)
    else:
        deployments.say(f"{name}: undoing the deployment that was interrupted")
        _undo(deployments, journal)


def _bring_up(deployments: Deployments, candidate: Candidate) -> None:
    link = deployments.server.run_dir / "store" / candidate.file
    link.unlink(missing_ok=True)
    link.symlink_to(candidate.archive.path.resolve())
    try:
        registered.bring_up(deployments.server, candidate)
    finally:
        link.unlink(missing_ok=True)  # TorchServe has unpacked it


def _settle(deployments: Deployments, journal: Journal, candidate: Candidate, after: History) -> None:
    """The new version is the default: record it, and let the others finish."""
    model = journal.model
    deployments.write({**deployments.histories, model: after})
    deployments.server = with_version(deployments.server, candidate)
    write_record(deployments.server)
    before = f"; {journal.leaving} was before" if journal.leaving else ""
    deployments.say(f"{candidate.name} is live at {deployments.server.url}/predictions/{model}{before}")
    if not journal.keep:
        _remove_others(deployments, model, journal.version)
    deployments.prune()
    remove_journal(deployments.server.run_dir)


def _remove_others(deployments: Deployments, model: str, live: str) -> None:
    for version in registered.versions_of(deployments.server, model):
        if version == live:
            continue
        if registered.finish_requests(deployments.server, model, version):
            registered.unregister(deployments.server, model, version)
            deployments.say(f"{model} {version}: finished its requests; removed")
        else:
            deployments.say(
                f"{model} {version}: keeps its workers: clients that name this version still send requests; "
                "the next deploy tries again"
            )


def _undo(deployments: Deployments, journal: Journal) -> None:
    """The new version did not become live: take away what was begun, and keep the journal if that fails."""
    model, version, server = journal.model, journal.version, deployments.server
    histories = {name: history for name, history in deployments.histories.items() if name != model}
    if journal.before is not None:
        histories[model] = from_plain(journal.before, deployments.home)
    with suppress(SimpleNetError, OSError):
        deployments.write(histories)
        if server.process() is not None and version in registered.versions_of(server, model):
            if journal.leaving and registered.default_version(server, model) == version:
                registered.set_default(server, model, journal.leaving)
                registered.finish_requests(server, model, version)
            if not journal.was_registered:
                registered.unregister(server, model, version)
        deployments.prune()
        remove_journal(server.run_dir)
