"""The verbs of a running server: serve, stop, status, predict."""

import shlex
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simplenet.cli import tables
from simplenet.cli.options import (
    AsJson,
    InputShape,
    Key,
    ModelClass,
    ModelConfigText,
    ModelFile,
    Normalize,
    Output,
    Port,
    Scale,
    Strict,
    console,
    packing,
)
from simplenet.cli.output import lasting_output
from simplenet.cli.progress import train_with_progress
from simplenet.errors import ServerError, SimpleNetError
from simplenet.paths import MODEL_STORE, resource
from simplenet.settings import (
    DEFAULT_MODEL_NAME,
    DEFAULT_PORT,
    DEFAULT_RETRIES,
    DRAIN_TIMEOUT_S,
    MAX_QUEUE_WAIT_S,
    RECOVERY_TIMEOUT_S,
    check_settings,
)
from simplenet.signals import check_interrupted, signals_interrupt
from simplenet.text import visible

if TYPE_CHECKING:
    from simplenet.server import Server


def serve(
    port: Port = DEFAULT_PORT,
    host: Annotated[
        str, typer.Option(help="Address for predictions; the other ports stay on this machine.")
    ] = "127.0.0.1",
    model_store: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix of .mar files, all served.")] = str(
        MODEL_STORE
    ),
    checkpoint: Annotated[
        str | None, typer.Option(help="Serve this file with weights, as 'simplenet', without a model store.")
    ] = None,
    strict_store: Annotated[
        bool, typer.Option("--strict-store", help="Refuse the whole model store if one archive cannot be served.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Per model; by default one per GPU, or one.")] = None,
    model_file: ModelFile = None,
    model_class: ModelClass = None,
    model_config: ModelConfigText = None,
    input_shape: InputShape = None,
    normalize: Normalize = None,
    scale: Scale = None,
    output: Output = None,
    key: Key = None,
    strict: Strict = False,
    profile: Annotated[
        str | None, typer.Option(help="throughput, latency or a YAML file, instead of the archive's own.")
    ] = None,
    max_queue_wait: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a request may wait for a worker; then it gets 503.")
    ] = MAX_QUEUE_WAIT_S,
    recovery_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that a model may be without a worker; then the server ends.")
    ] = RECOVERY_TIMEOUT_S,
    drain_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds that stopping waits for the requests in flight.")
    ] = DRAIN_TIMEOUT_S,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the server is ready.")] = False,
) -> None:
    """Start a server and wait until its models are ready. If there is no model store yet, train the sample model first.

    The options from --model-file to --strict are about --checkpoint, as for `archive`.
    """
    with signals_interrupt(), lasting_output():
        from simplenet.server import new_run_dir
        from simplenet.server.memory import offered_bytes
        from simplenet.server.model_store import collect_archives
        from simplenet.server.ports import check_ports
        from simplenet.server.record import with_samples
        from simplenet.server.start_up import ready_server
        from simplenet.server.supervisor import spawn
        from simplenet.server.torchserve import find_java

        check_settings()
        stated = packing(model_file, model_class, model_config, input_shape, normalize, scale, output, key, strict)
        offered_bytes()  # a wrong SIMPLENET_MEMORY is refused before the sample model is trained
        find_java()
        check_ports(port, host)
        with new_run_dir(port) as (run_dir, lock):
            if checkpoint is None:
                _prepare_store(model_store, run_dir)
            refuse = None if strict_store else _say_refused
            archives = collect_archives(run_dir, model_store, checkpoint, profile, refuse, **stated)
            timeouts = {
                "max_queue_wait_s": max_queue_wait,
                "recovery_timeout_s": recovery_timeout,
                "drain_timeout_s": drain_timeout,
            }
            starting = ready_server(
                archives, run_dir, refuse, lock=lock, port=port, host=host, workers=workers, **timeouts
            )
            with ExitStack() as stack:
                with console.status("starting TorchServe …"):
                    running, samples = stack.enter_context(starting)
                typer.echo(running.memory)
                watched = with_samples(running, samples)
                check_interrupted()
                if not detach:
                    _stay(watched, samples)
                spawn(watched)
        _announce(running, samples)  # detached: from here on only `stop` ends it


def stop(
    port: Port = DEFAULT_PORT,
    drain_timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait for the requests in flight; by default serve's.")
    ] = None,
) -> None:
    """Stop the server that was started on this port, once what it has accepted is answered; Ctrl-C stops it at once."""
    from simplenet.server.lifecycle import stop as stop_on_port

    with signals_interrupt():
        cut_off = stop_on_port(port, drain_timeout)
    if cut_off is None:
        typer.echo(f"the server on port {port} had died; removed what it left")
    else:
        typer.echo(f"stopped the server on port {port}{cut_off}")


def status(
    port: Annotated[int | None, typer.Option(help="Of one server; by default all of this user's.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the servers that were started and not stopped, also those that died; exit code 1 if none of them runs."""
    from simplenet.server.status import how_to_watch, status_of_all, status_of_port

    found, errors = status_of_all() if port is None else (status_of_port(port), [])
    for error in errors:
        typer.echo(f"error: {visible(str(error))}", err=True)
    if as_json:
        typer.echo(tables.as_json(found))
    elif found:
        console.print(tables.of_servers(found))
        for one in found:
            if one.running and not one.watched:
                typer.echo(how_to_watch(one), err=True)
    elif not errors:
        raise ServerError("no server that was started here runs on any port; start one: simplenet serve")
    if not any(each.running for each in found):
        raise typer.Exit(1)


def predict(
    files: Annotated[list[Path], typer.Argument(help="Images (.png, .jpg) or arrays (.npy).")],
    url: Annotated[
        str, typer.Option(help="The server, or a model's address on it.")
    ] = f"http://127.0.0.1:{DEFAULT_PORT}",
    model: Annotated[str, typer.Option(help="The model's name, if --url names only the server.")] = DEFAULT_MODEL_NAME,
    top_k: Annotated[int, typer.Option(help="Classes per row, the most probable first.")] = 1,
    retries: Annotated[
        int, typer.Option(min=0, help="How often to try again after 503 or a broken connection.")
    ] = DEFAULT_RETRIES,
) -> None:
    """Send files to a running server and print its predictions."""
    from simplenet.client.predict import predict as request_predictions

    address = url.rstrip("/") if "/predictions/" in url else f"{url.rstrip('/')}/predictions/{model}"
    predicted = [(str(file), request_predictions(address, file, top_k, retries=retries)) for file in files]
    console.print(tables.of_predictions(predicted))


def _stay(server: "Server", samples: dict[str, tuple[str, Path]]) -> None:
    """Announce the server and watch it in the foreground until a signal ends it; a second signal ends it at once."""
    from simplenet.server import drain
    from simplenet.server.supervisor import Supervisor

    try:
        _announce(server, samples)  # inside the try: a caller that reads "ready" may send a signal at once
        Supervisor(server, _say).run()
    except KeyboardInterrupt:
        typer.echo("stopping: finishing what was accepted (once more to stop at once)")
        typer.echo(f"stopped{drain(server, server.drain_timeout_s)}")
    raise typer.Exit


def _say(line: str) -> None:
    with suppress(OSError):  # nobody reads it any more, or the disk is full: no reason to stop
        typer.echo(line, err=True)


def _say_refused(error: SimpleNetError) -> None:
    typer.echo(f"not served: {visible(str(error))}", err=True)


def _prepare_store(model_store: str, run_dir: Path) -> None:
    """Refuse a model store that is not there; the default one is made, and gets the sample model if it is empty."""
    from simplenet.server.model_store import is_default, is_empty, require_folder, require_writable

    if not is_default(model_store):
        require_folder(model_store)
    elif is_empty(model_store):
        require_writable(model_store)
        _make_sample(Path(model_store), run_dir)


def _make_sample(model_store: Path, run_dir: Path) -> None:
    """Train the sample model and archive it as 'simplenet'; its checkpoint is in the run directory meanwhile."""
    from simplenet.archive import create_archive
    from simplenet.training.data import load_data
    from simplenet.training.run import fresh

    typer.echo(f"no archive in {model_store}: training the sample model on the bundled digits")
    file = run_dir / "tmp" / "simplenet.pt"
    run = fresh(load_data(resource("data/mnist")))
    accuracy = train_with_progress(run)
    run.save(file)
    typer.echo(f"held-out accuracy {accuracy:.4f} on {len(run.data.test_rows)} rows")
    packed = create_archive(file, export_path=model_store)
    file.unlink()
    typer.echo(f"wrote {packed}")


def _announce(server: "Server", samples: dict[str, tuple[str, Path]]) -> None:
    """Print the URL and, for each model, a curl command that works when pasted."""
    typer.echo(f"ready {server.url} (workers: {server.workers}, logs: {server.logs})")
    for name, (content_type, file) in samples.items():
        body = shlex.quote(f"@{file}")
        typer.echo(f"curl -H 'Content-Type: {content_type}' --data-binary {body} {server.url}/predictions/{name}")
