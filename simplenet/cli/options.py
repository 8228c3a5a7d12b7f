"""Options that several verbs share, the values that are more than one word, and the console."""

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
ModelClass = Annotated[str | None, typer.Option(help="The class in --model-file.")]
InputShape = Annotated[str | None, typer.Option(help="Of one row before the network, such as 1,28,28.")]
Normalize = Annotated[str | None, typer.Option(help="MEAN,STD as in training, or all means, then all stds.")]
Scale = Annotated[float | None, typer.Option(help="What rows are multiplied by first; images come as 0..1.")]
Output = Annotated[str | None, typer.Option(help="What the network returns: logits, log_probabilities, probabilities.")]


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


def packing(
    model_file: Path | None,
    model_class: str | None,
    model_config: str | None,
    input_shape: str | None,
    normalize: str | None,
    scale: float | None,
    output: str | None,
    key: str | None,
    strict: bool,
) -> dict[str, Any]:
    """The arguments of `create_archive` that the options of `archive` and `serve` state.

    Raises:
        ConfigError: an option has an impossible value.
    """
    steps: dict[str, Any] = {**(parse_normalize(normalize) if normalize is not None else {})}
    if scale is not None:
        steps["scale"] = scale
    return {
        "model_file": model_file,
        "model_class": model_class,
        "model_config": parse_config(model_config),
        "input_shape": None if input_shape is None else parse_shape(input_shape),
        "preprocessing": steps or None,
        "output": output,
        "key": key,
        "strict": strict,
        "say": typer.echo,
    }


def parse_shape(text: str) -> tuple[int, ...]:
    """The value of --input-shape.

    Raises:
        ConfigError: it is not whole numbers above 0, separated by commas.

    Example:
        >>> parse_shape("1,28,28")
        (1, 28, 28)
    """
    return parse_sizes(text, "--input-shape") or parse_sizes(" ", "--input-shape")


def parse_sizes(text: str, option: str) -> tuple[int, ...]:
    """Sizes separated by commas; empty if the text is.

    Raises:
        ConfigError: one of them is not a whole number above 0.

    Example:
        >>> parse_sizes("128,64", "--hidden-sizes"), parse_sizes("", "--hidden-sizes")
        ((128, 64), ())
    """
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isdecimal() and word.isascii() and len(word) < 10 and int(word) for word in words):
        raise ConfigError(f"{option}: expected whole numbers above 0, separated by commas, found {text!r}")
    return tuple(map(int, words))


def parse_normalize(text: str) -> dict[str, list[float]]:
    """The value of --normalize: one mean and one std, or those of each channel.

    Raises:
        ConfigError: it is not an even number of numbers, separated by commas.

    Example:
        >>> parse_normalize("0.1307,0.3081")
        {'mean': [0.1307], 'std': [0.3081]}
        >>> parse_normalize("0.49,0.48,0.45,0.25,0.24,0.26")["std"]
        [0.25, 0.24, 0.26]
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) % 2:
        raise ConfigError(
            f"--normalize: expected MEAN,STD, or the means of all channels, then their stds, found {text!r}"
        )
    half = len(numbers) // 2
    return {"mean": numbers[:half], "std": numbers[half:]}
