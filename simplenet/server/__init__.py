"""Start TorchServe, wait until it is ready, stop it."""

from simplenet.server.lifecycle import start, started, stop, stop_server, wait_for_end
from simplenet.server.model_store import collect_archives, verified_samples
from simplenet.server.ready import living_workers, wait_until_ready
from simplenet.server.record import Server, find
from simplenet.server.run_dir import new_run_dir

__all__ = [
    "Server",
    "collect_archives",
    "find",
    "living_workers",
    "new_run_dir",
    "start",
    "started",
    "stop",
    "stop_server",
    "verified_samples",
    "wait_for_end",
    "wait_until_ready",
]
