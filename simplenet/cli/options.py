"""Options that several verbs share, and the console."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()

Port = Annotated[int, typer.Option(help="Port for predictions; management, metrics and gRPC take the next four.")]
Profile = Annotated[str, typer.Option(help="throughput, latency, or the path of a YAML file of the same form.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelFile = Annotated[Path | None, typer.Option(help="A Python module with your own network; it is run.")]
