"""Changes of the served version, by the commands that an operator uses."""

import itertools
import re
from pathlib import Path

from benchmarks.soak import network, server
from benchmarks.soak.versions import Versions

TIMEOUT_S = 120.0
MODEL = "simplenet"
LOGS = re.compile(r" \(logs: [^)]*\)")  # where they are says nothing in a report


class Deployments:
    """Deploys new versions and rolls them back; `versions` knows at every moment what may answer.

    Args:
        running: the server, which serves the weights "A".
        archives: by the name of their weights.
        folder: for the archives of new versions.
    """

    def __init__(self, running: server.Running, archives: dict[str, Path], folder: Path) -> None:
        self.running, self.archives, self.folder = running, archives, folder
        self.versions = Versions("A")
        self.history = ["A"]  # the last weights are live, those before them are where a rollback leads
        self._numbers = itertools.count(2)
        self.can_deploy = server.has_verb("deploy") and server.has_verb("rollback")

    def deploy(self) -> str:
        """Deploy a new version with the other weights; what went wrong, or an empty string."""
        weights = "B" if self.history[-1] == "A" else "A"
        version = f"{next(self._numbers)}.0"
        archive = network.with_version(self.archives[weights], version, self._file(version))
        error = self._change(weights, "deploy", archive)
        archive.unlink()
        if not error:
            self.history.append(weights)
        return error

    def rollback(self) -> str:
        """Return to the version before the last deployment; what went wrong, or an empty string."""
        error = self._change(self.history[-2], "rollback", MODEL)
        if not error:
            self.history.pop()
        return error

    def next_change(self) -> str:
        """A deployment, or the rollback of the last one."""
        return self.deploy() if len(self.history) == 1 else self.rollback()

    def deploy_broken(self) -> str:
        """Deploy half an archive, which has to be refused and to change nothing."""
        archive = network.broken(self.archives[self.history[-1]], self._file("broken"))
        done = self.running.command("deploy", archive, timeout_s=TIMEOUT_S)
        archive.unlink()
        return "" if done.returncode else "a broken archive was deployed"

    def _file(self, version: str) -> Path:
        folder = self.folder / version
        folder.mkdir(exist_ok=True)
        return folder / f"{MODEL}.mar"

    def _change(self, weights: str, *command: str | Path) -> str:
        """Run the command; if it fails, both weights count as live, for nobody knows how far it came."""
        before = self.history[-1]
        self.versions.begin(weights)
        done = self.running.command(*command, timeout_s=TIMEOUT_S)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            return f"{command[0]} ended with {done.returncode}: {LOGS.sub('', lines[-1])}"
        self.versions.end(before)
        return ""
