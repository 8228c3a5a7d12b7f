"""Versions change under load: nothing fails, and every answer is from a version that was live."""

import random
import time

from benchmarks.soak.collection import Request
from benchmarks.soak.deployments import Deployments
from benchmarks.soak.server import Running
from benchmarks.soak.stage import Shown, Stage
from benchmarks.soak.tally import LOST, WRONG, Tally
from benchmarks.soak.traffic import Traffic
from benchmarks.soak.verdict import Line

CHANGES, CLIENTS, SLOW_CLIENTS, WORKERS = 50, 30, 2, 2
BROKEN_AT = (0.2, 0.6)  # of the changes, before which a broken archive is deployed
BOUND_S = 1200.0


def run(stage: Stage) -> Shown:
    """50 deployments and rollbacks under 32 clients that do not try again; two of them send rows that take 3 s."""
    most, refused, errors = stage.count or CHANGES, [], []
    with stage.served(WORKERS) as running:
        deployments = Deployments(running, stage.networks.archives, stage.folder)
        if not deployments.can_deploy:
            return Shown([Line("this simplenet has no verbs deploy and rollback", False)], {})
        tally = Tally(time.monotonic())
        crowds = _crowds(stage, running, tally, deployments)
        changes = 0
        while changes < most and time.monotonic() - tally.start < BOUND_S and len(errors) < 3:
            stage.advance(changes / most, f"{changes} changes, {tally.outcomes[LOST]} failed")
            if len(refused) < sum(changes >= share * most for share in BROKEN_AT):
                refused.append(deployments.deploy_broken())
            error = deployments.next_change()
            errors += [error] if error else []
            changes += not error
        unanswered = sum(crowd.end() for crowd in crowds)
    failed, wrong = tally.outcomes[LOST] + unanswered, tally.outcomes[WRONG]
    return Shown(
        [
            Line(f"{changes} of {most} deployments and rollbacks: {(errors or ['none failed'])[0]}", changes == most),
            Line(f"{failed} of {tally.recorded:,} requests failed without a retry (0)", failed == 0),
            Line(f"wrong, or from a version that was not live: {wrong} (0)", wrong == 0),
            Line(
                f"broken archives that were refused: {refused.count('')} of {len(refused)}",
                bool(refused) and not any(refused),
            ),
        ],
        {
            "changes": changes, "errors": errors, "requests": tally.recorded, "statuses": dict(tally.statuses),
            "met": dict(tally.met), "examples": tally.examples, "p99_ms": tally.latency_ms(0.99),
            "seconds": round(time.monotonic() - tally.start, 1),
        },
    )  # fmt: skip


def _crowds(stage: Stage, running: Running, tally: Tally, deployments: Deployments) -> list[Traffic]:
    """Clients of small requests, and clients of slow ones."""
    small = stage.requests.small()

    def quick(chance: random.Random) -> Request:
        return chance.choice(small)

    def slow(_: random.Random) -> Request:
        return stage.requests.slow

    return [
        Traffic(running.port, CLIENTS, quick, tally, deployments.versions, attempts=1, pause_s=0.02).start(),
        Traffic(running.port, SLOW_CLIENTS, slow, tally, deployments.versions, attempts=1, pause_s=2.0).start(),
    ]
