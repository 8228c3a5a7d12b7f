"""The `simplenet` command: one function a verb, each a thin layer over the library."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from simplenet import tables
from simplenet.errors import ConfigError, SimpleNetError
from simplenet.resources import MODEL_STORE, resource
from simplenet.serving import DEFAULT_PORT

if TYPE_CHECKING:
    from simplenet.serving.server import Server
    from simplenet.training_run import Run

app = typer.Typer(
    help="From a PyTorch checkpoint to a production prediction server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

SAMPLE_CHECKPOINT = "models/simplenet.pt"

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
    output: Annotated[
        str, typer.Option(help="The checkpoint to write: a path or an s3:// address.")
    ] = SAMPLE_CHECKPOINT,
    epochs: Annotated[int | None, typer.Option(min=1, help="In all; 10, or what a resumed run was asked for.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    hidden_size: Annotated[int, typer.Option(min=1)] = 256,
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 0,
    classes: Annotated[str, typer.Option(help="Label names, separated by commas; 0, 1, 2 … by default.")] = "",
    relabel: Annotated[str, typer.Option(help="A new label for each class, such as even,odd,even,odd,…")] = "",
    save_every: Annotated[int | None, typer.Option(min=1, help="Save all that --resume needs every N epochs.")] = None,
    keep: Annotated[int, typer.Option(min=1, help="Of those, keep the last K and the best.")] = 3,
    resume: Annotated[str | None, typer.Option(help="Go on from this checkpoint or .mar.")] = None,
    source: Annotated[str | None, typer.Option("--from", help="Start from this network's backbone.")] = None,
    freeze_backbone: Annotated[bool, typer.Option("--freeze-backbone", help="Train the head alone.")] = False,
) -> None:
    """Train SimpleNet on an IDX folder and save a checkpoint for serving."""
    from simplenet import training_run as runs
    from simplenet.storage import local_copy, local_output

    if resume and source:
        raise ConfigError("train: expected --resume or --from, found both")
    folder = resource("data/mnist") if data == Path() else data
    given = runs.load_data(folder, _listed(classes), _listed(relabel))
    settings = runs.Settings(epochs or runs.Settings.epochs, batch_size, hidden_size, seed)
    if resume:
        with local_copy(resume) as path:
            run = runs.resume(given, path, epochs)
    elif source:
        with local_copy(source) as path:
            run = runs.transfer(given, path, settings, freeze_backbone)
    else:
        run = runs.fresh(given, settings)
    if run.note:
        typer.echo(run.note)
    with local_output(output) as target:
        checkpoints = (target if target == Path(output) else Path("models") / target.name).with_suffix("")
        saving = {"folder": checkpoints, "save_every": save_every, "keep": keep} if save_every else {}
        held_out = _run_with_progress(run, **saving)
        run.save(target)
    typer.echo(f"held-out accuracy {held_out:.4f} on {len(given.test_rows)} rows; saved {output}")
    if source and freeze_backbone:
        other = _run_with_progress(runs.random_backbone(given, settings, run.hidden_size))
        typer.echo(f"a head on a random frozen backbone: {other:.4f}; gained {held_out - other:+.4f}")


@app.command()
def archive(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint saved for inference: a path or an s3:// address.")],
    model_name: Annotated[str, typer.Option(help="The name in the URL.")] = "simplenet",
    version: Annotated[str, typer.Option(help="The model's version.")] = "1.0",
    export_path: Annotated[str, typer.Option(help="The folder for the .mar, or s3://bucket/prefix.")] = str(
        MODEL_STORE
    ),
    profile: Profile = "throughput",
    model_file: Annotated[Path | None, typer.Option(help="A Python module with your own network.")] = None,
    model_class: Annotated[str | None, typer.Option(help="The class in --model-file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing archive.")] = False,
) -> None:
    """Pack a checkpoint into a self-contained .mar; both are verified."""
    from simplenet.archive import create_archive
    from simplenet.storage import local_copy, local_folder

    with local_copy(checkpoint) as file, local_folder(export_path, replace=force) as folder:
        made = create_archive(
            file, model_name=model_name, version=version, export_path=folder, profile=profile,
            model_file=model_file, model_class=model_class, force=force,
        )  # fmt: skip
        size = made.stat().st_size
    typer.echo(f"wrote {export_path.rstrip('/')}/{made.name} ({size:,} bytes): {model_name} {version}")


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="A checkpoint or a .mar: a path or an s3:// address.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify and describe a checkpoint or a .mar; nothing from it is executed."""
    from simplenet.inspection import describe, require_whole
    from simplenet.storage import local_copy

    with local_copy(file) as path:
        description = {**describe(path), "file": file}
    if as_json:
        typer.echo(tables.as_json(description))
    else:
        console.print(tables.of_description(description))
    require_whole(description)


@app.command()
def repair(
    source: Annotated[str, typer.Argument(help="Any file with weights: .pt, .safetensors, .mar; never changed.")],
    target: Annotated[str, typer.Argument(help="The checkpoint to write: .pt or .safetensors.")],
    model_config: Annotated[str | None, typer.Option(help="JSON, where the weights fit no SimpleNet.")] = None,
) -> None:
    """Make a whole checkpoint of a file that lacks something, or convert it."""
    from simplenet.checkpoint.repair import repair as make_whole
    from simplenet.storage import local_copy, local_output

    config = _json_object(model_config) if model_config else None
    with local_copy(source) as path, local_output(target) as made:
        done = make_whole(path, made, config)
    typer.echo(f"wrote {target}: " + ("; ".join(done) or "nothing to repair"))


@app.command()
def serve(
    port: Port = DEFAULT_PORT,
    host: Annotated[
        str, typer.Option(help="Address of predictions; the other ports stay on this machine.")
    ] = "127.0.0.1",
    model_store: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix of .mar files, all served.")] = str(
        MODEL_STORE
    ),
    checkpoint: Annotated[str | None, typer.Option(help="Serve this checkpoint, as 'simplenet'.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Per model; by default one a GPU, or one.")] = None,
    profile: Annotated[str | None, typer.Option(help="throughput or latency, instead of the archive's own.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is ready.")] = False,
) -> None:
    """Start a server and wait until its models answer. With no archive in the store it trains the sample model."""
    from simplenet.terminal import interruptible, lasting_output

    with interruptible(), lasting_output():
        from simplenet.serving import server as ts
        from simplenet.serving.run_dir import new_run_dir
        from simplenet.serving.store import collect_archives, is_empty, require_writable, verified_samples

        ts.find_java()
        ts.check_ports(port, host)
        with new_run_dir(port) as (run_dir, lock):
            if checkpoint is None and is_empty(model_store):
                require_writable(model_store)
                _make_sample(Path(model_store), run_dir)
            archives = collect_archives(run_dir, model_store, checkpoint, profile)
            with ts.started(archives, run_dir=run_dir, lock=lock, port=port, host=host, workers=workers) as running:
                with console.status("starting TorchServe …"):
                    samples = verified_samples(archives, run_dir)  # meanwhile Java comes up
                    ts.wait_until_ready(running)
                if not detach:
                    _stay(running, samples)
        _announce(running, samples)  # detached: from here on nothing ends it but `stop`


def _stay(server: "Server", samples: dict[str, tuple[str, Path]]) -> None:
    """Announce the server and wait in the foreground until a signal ends it."""
    from simplenet.serving.server import wait_for_end

    try:
        _announce(server, samples)  # within: who reads "ready" may send the signal at once
        wait_for_end(server)
    except KeyboardInterrupt:
        typer.echo("stopping")
        raise typer.Exit from None


@app.command()
def stop(port: Port = DEFAULT_PORT) -> None:
    """Stop the server that was started on this port."""
    from simplenet.serving import server as ts

    if ts.stop(port):
        typer.echo(f"stopped the server on port {port}")
    else:
        typer.echo(f"the server on port {port} had died; removed what it left")


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
    answers = [(str(file), ask(address, file, top_k)) for file in files]
    console.print(tables.of_predictions(answers))


@app.command(name="list")
def list_(
    folder: Annotated[str, typer.Argument(help="A folder, or s3://bucket/folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the checkpoints and archives in a folder, the oldest first, with accuracy and parent."""
    from simplenet.checkpoint.versions import list_versions

    versions = list_versions(folder)
    if as_json:
        typer.echo(tables.as_json(versions))
        return
    console.print(tables.of_versions(versions, folder))


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="A checkpoint or a .mar: a path or an s3:// address.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two checkpoints: config, metadata and, layer by layer, how far the weights moved."""
    from simplenet.checkpoint.versions import diff as compare
    from simplenet.storage import local_copy

    with local_copy(a) as first, local_copy(b) as second:
        found = compare(first, second)
    if as_json:
        typer.echo(tables.as_json({"a": a, "b": b, **found}))
        return
    for table in tables.of_differences(found, a, b):
        if table.row_count:
            console.print(table)
    typer.echo(f"{len(found['layers'])} layers differ, {len(found['same'])} are the same")


@app.command()
def certify(
    file: Annotated[str, typer.Argument(help="A checkpoint: a path or an s3:// address; gets the table.")],
    model_file: Annotated[Path | None, typer.Option(help="A Python module with your own network; it is run.")] = None,
    model_class: Annotated[str, typer.Option(help="The class in --model-file.")] = "",
) -> None:
    """Measure how exact a checkpoint's answers are against float64, and keep the table in its metadata."""
    from simplenet.certify import certify as measure
    from simplenet.serving.predictor import load_network
    from simplenet.storage import is_remote, local_copy, upload

    network = load_network(model_file, model_class) if model_file else None
    with local_copy(file) as path:
        rows = measure(path, network)["rows"]
        if is_remote(file):
            upload(path, file)
    console.print(tables.of_certificate(rows))


def _run_with_progress(run: "Run", **saving: Any) -> float:
    """Train with a progress bar; the held-out accuracy comes back."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    trainer = run.trainer
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console) as bar:
        total = (trainer.epochs - trainer.epoch) * trainer.batches
        task = bar.add_task("train", total=total, epoch=f"{trainer.epoch}/{trainer.epochs}", state="")
        return run.train(
            lambda now: bar.update(
                task,
                advance=1,
                epoch=f"{now.epoch}/{now.epochs}",
                state=f"loss {now.loss:.4f}  accuracy {now.accuracy:.4f}",
            ),
            **saving,
        )


def _json_object(text: str) -> dict[str, Any]:
    import orjson

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"--model-config: expected JSON, found {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"--model-config: expected a JSON object, found {text}")
    return value


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")] if names else []


def _make_sample(model_store: Path, run_dir: Path) -> None:
    """Train the sample model and archive it as 'simplenet'; its checkpoint lies in the run directory meanwhile."""
    from simplenet.archive import create_archive

    typer.echo(f"no archive in {model_store}: training the sample model on the bundled digits")
    file = run_dir / "tmp" / "simplenet.pt"
    train(output=str(file))
    made = create_archive(file, export_path=model_store)
    file.unlink()
    typer.echo(f"wrote {made}")


def _announce(server: "Server", samples: dict[str, tuple[str, Path]]) -> None:
    """Print the URL and a curl line for each model that works as pasted."""
    typer.echo(f"ready {server.url} (workers: {server.workers} a model, logs: {server.logs})")
    for name, (content_type, file) in samples.items():
        body = shlex.quote(f"@{file}")
        typer.echo(f"curl -H 'Content-Type: {content_type}' --data-binary {body} {server.url}/predictions/{name}")


if __name__ == "__main__":
    main()
