"""The `simplenet` command: one function a verb, each a thin layer over the library."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simplenet.errors import SimpleNetError
from simplenet.resources import MODEL_STORE, resource
from simplenet.serving import DEFAULT_PORT

if TYPE_CHECKING:
    from simplenet.serving.server import Server
    from simplenet.training import Trainer

app = typer.Typer(
    help="From a PyTorch checkpoint to a production prediction server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

Port = Annotated[int, typer.Option(help="Port of predictions; management, metrics and gRPC take the next four.")]
Profile = Annotated[str, typer.Option(help="throughput, latency, or the path of a YAML file in their form.")]


def main() -> None:
    """Run the command; a refusal is one line and exit code 1."""
    try:
        app()
    except SimpleNetError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        typer.echo(f"error: {error.filename or 'file'}: {error.strerror or error}", err=True)
        sys.exit(1)


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder of MNIST-format IDX files, plain or gzipped.")] = Path(),
    output: Annotated[Path, typer.Option(help="The checkpoint to write.")] = Path("models/simplenet.pt"),
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    hidden_size: Annotated[int, typer.Option(min=1)] = 256,
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 0,
    classes: Annotated[str, typer.Option(help="Label names, separated by commas; 0, 1, 2 … by default.")] = "",
) -> None:
    """Train SimpleNet on an IDX folder and save a checkpoint for serving."""
    import torch

    from simplenet.checkpoint import save_for_inference
    from simplenet.data import load_split
    from simplenet.integrity import GOLDEN_SAMPLES
    from simplenet.model import SimpleNet
    from simplenet.training import Trainer, accuracy

    folder = resource("data/mnist") if data == Path() else data
    rows, labels = load_split(folder, "train")
    test_rows, test_labels = load_split(folder, "test")
    names = classes.split(",") if classes else [str(i) for i in range(int(labels.max()) + 1)]
    torch.manual_seed(seed)
    model = SimpleNet(rows.shape[1], hidden_size, len(names))
    trainer = Trainer(model, rows, labels, epochs=epochs, batch_size=batch_size, seed=seed)
    _run_with_progress(trainer)
    held_out = accuracy(model, test_rows, test_labels)
    metadata = {
        "dataset": folder.name,
        "accuracy": held_out,
        "epochs": epochs,
        "loss": trainer.loss,
        "seed": seed,
    }
    save_for_inference(model, output, metadata, classes=names, golden_inputs=test_rows[:GOLDEN_SAMPLES])
    typer.echo(f"held-out accuracy {held_out:.4f} on {len(test_rows)} rows; saved {output}")


@app.command()
def archive(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint saved for inference.")],
    model_name: Annotated[str, typer.Option(help="The name in the URL.")] = "simplenet",
    version: Annotated[str, typer.Option(help="The model's version.")] = "1.0",
    export_path: Annotated[Path, typer.Option(help="The folder to put the .mar into.")] = MODEL_STORE,
    profile: Profile = "throughput",
    model_file: Annotated[Path | None, typer.Option(help="A Python module with your own network.")] = None,
    model_class: Annotated[str | None, typer.Option(help="The class in --model-file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing archive.")] = False,
) -> None:
    """Pack a checkpoint into a self-contained .mar; both are verified."""
    from simplenet.archive import create_archive

    made = create_archive(
        checkpoint, model_name=model_name, version=version, export_path=export_path, profile=profile,
        model_file=model_file, model_class=model_class, force=force,
    )  # fmt: skip
    typer.echo(f"wrote {made} ({made.stat().st_size:,} bytes): {model_name} {version}")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint or a .mar.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify and describe a checkpoint or a .mar; nothing from it is executed."""
    from simplenet.inspection import describe

    description = describe(file)
    if as_json:
        import orjson

        typer.echo(orjson.dumps(description, option=orjson.OPT_INDENT_2, default=str).decode())
        return
    table = Table(show_header=False)
    for key, value in _flatten(description):
        table.add_row(escape(key), escape(value))
    console.print(table)


@app.command()
def serve(
    port: Port = DEFAULT_PORT,
    host: Annotated[
        str, typer.Option(help="Address of predictions; the other ports stay on this machine.")
    ] = "127.0.0.1",
    model_store: Annotated[Path, typer.Option(help="Folder of .mar files, all of them served.")] = MODEL_STORE,
    checkpoint: Annotated[Path | None, typer.Option(help="Serve this checkpoint, as 'simplenet'.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Per model; by default one a GPU, or one.")] = None,
    profile: Annotated[str | None, typer.Option(help="throughput or latency, instead of the archive's own.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is ready.")] = False,
) -> None:
    """Start a server and wait until its models answer. With no archive in the store it trains the sample model."""
    from simplenet.serving import server as ts
    from simplenet.serving.store import collect_archives

    ts.find_java()
    ts.check_ports(port, host)
    run_dir = ts.new_run_dir(port)
    if checkpoint is None and not list(model_store.glob("*.mar")):
        _make_sample(model_store)
    archives = collect_archives(run_dir, model_store, checkpoint, profile)
    with ts.started(archives, run_dir=run_dir, port=port, host=host, workers=workers) as running:
        with console.status("starting TorchServe …"):
            ts.wait_until_ready(running)
        try:
            _announce(running, archives)
            if not detach:
                ts.wait_for_end(running)
        except KeyboardInterrupt:
            typer.echo("stopping")
            raise typer.Exit from None


@app.command()
def stop(port: Port = DEFAULT_PORT) -> None:
    """Stop the server that was started on this port."""
    from simplenet.serving import server as ts

    ts.stop_server(ts.find(port))
    typer.echo(f"stopped the server on port {port}")


@app.command()
def predict(
    files: Annotated[list[Path], typer.Argument(help="Images (.png, .jpg) or arrays (.npy).")],
    url: Annotated[
        str, typer.Option(help="The server, or a model's address on it.")
    ] = f"http://127.0.0.1:{DEFAULT_PORT}",
    model: Annotated[str, typer.Option(help="The model's name, where --url names only the server.")] = "simplenet",
    top_k: Annotated[int, typer.Option(help="Classes per row, the most probable first.")] = 1,
) -> None:
    """Ask a running server what is in these files."""
    from simplenet.serving.client import predict as ask

    address = url.rstrip("/") if "/predictions/" in url else f"{url.rstrip('/')}/predictions/{model}"
    table = Table("file", "row", "label", "probability")
    for file in files:
        for row, prediction in enumerate(ask(address, file, top_k)):
            for rank, answer in enumerate(prediction.get("top_k", [prediction])):
                where = ("", "") if rank else (escape(str(file)), str(row))
                table.add_row(*where, escape(answer["label"]), f"{answer['probability']:.4f}")
    console.print(table)


def _run_with_progress(trainer: "Trainer") -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console) as bar:
        total = (trainer.epochs - trainer.epoch) * trainer.batches
        task = bar.add_task("train", total=total, epoch=f"{trainer.epoch}/{trainer.epochs}", state="")
        trainer.run(
            lambda now: bar.update(
                task,
                advance=1,
                epoch=f"{now.epoch}/{now.epochs}",
                state=f"loss {now.loss:.4f}  accuracy {now.accuracy:.4f}",
            )
        )


def _make_sample(model_store: Path) -> None:
    """Train the sample model and archive it as 'simplenet'."""
    from simplenet.archive import create_archive

    typer.echo(f"no archive in {model_store}: training the sample model on the bundled digits")
    with _temporary_file("simplenet.pt") as file:
        train(data=Path(), output=file)
        made = create_archive(file, export_path=model_store)
    typer.echo(f"wrote {made}")


@contextmanager
def _temporary_file(name: str) -> Iterator[Path]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="simplenet-") as folder:
        yield Path(folder) / name


def _announce(server: "Server", archives: dict[str, Path]) -> None:
    """Print the URL and a curl line that works as pasted."""
    from simplenet.serving.store import sample_request

    typer.echo(f"ready {server.url} (workers: {server.workers} a model, logs: {server.logs})")
    for name, path in archives.items():
        content_type, file = sample_request(path, server.run_dir)
        body = shlex.quote(f"@{file}")
        typer.echo(f"curl -H 'Content-Type: {content_type}' --data-binary {body} {server.url}/predictions/{name}")


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value))
    elif value is not None:
        yield prefix, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
