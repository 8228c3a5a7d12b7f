"""Options that several verbs share, and the console."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from simplenet.errors import ConfigError

console = Console()

Port = Annotated[int, typer.Option(help="Port for predictions; management, metrics and gRPC take the next four.")]
Profile = Annotated[str, typer.Option(help="throughput, latency, or the path of a YAML file of the same form.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Key = Annotated[
    str | None, typer.Option(help="Where in the file the weights are, if several would fit, such as state_dict_ema.")
]
ModelConfigText = Annotated[
    str | None, typer.Option("--model-config", help="The network's arguments as JSON, instead of what the file says.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a file that was not saved whole.")]
ModelFile = Annotated[Path | None, typer.Option(help="A Python module with your own network; it is run.")]


def parse_config(text: str | None) -> dict[str, Any] | None:
    """The JSON object of `--model-config`.

    Raises:
        ConfigError: it is something else.

    Example:
        >>> parse_config('{"input_size": 4}')
        {'input_size': 4}
    """
    if text is None:
        return None
    import orjson

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"--model-config: expected JSON, found {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"--model-config: expected a JSON object, found {text}")
    return value
