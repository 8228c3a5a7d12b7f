"""The verbs of the `simplenet` command."""

import typer

from simplenet.cli.archives import archive
from simplenet.cli.checkpoints import certify, diff, inspect, list_, repair
from simplenet.cli.rollout import deploy, rollback, versions
from simplenet.cli.serving import predict, serve, status, stop
from simplenet.cli.training import train
from simplenet.settings import help_text

app = typer.Typer(
    help="From a PyTorch checkpoint to a production prediction server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
VERBS = (
    train, archive, serve, stop, status, deploy, rollback, versions, predict, inspect, diff, certify, repair
)  # fmt: skip
for verb in VERBS:
    app.command(epilog=help_text() if verb is serve else None)(verb)
app.command(name="list")(list_)
