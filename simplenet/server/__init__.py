"""Start TorchServe, wait until it is ready, stop it."""

from simplenet.server.drain import CutOff, drain
from simplenet.server.lifecycle import start, started, stop, stop_server
from simplenet.server.model_store import collect_archives, verified_samples
from simplenet.server.ready import living_workers, wait_until_ready
from simplenet.server.record import Server, find
from simplenet.server.rollout import VersionStatus, deploy, rollback, versions
from simplenet.server.run_dir import new_run_dir

__all__ = [
    "CutOff",
    "Server",
    "VersionStatus",
    "collect_archives",
    "deploy",
    "drain",
    "find",
    "living_workers",
    "new_run_dir",
    "rollback",
    "start",
    "started",
    "stop",
    "stop_server",
    "verified_samples",
    "versions",
    "wait_until_ready",
]
