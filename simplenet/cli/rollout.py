"""The verbs that change what a running server serves: deploy, rollback, versions."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from simplenet.cli import tables
from simplenet.cli.options import AsJson, Port, console
from simplenet.cli.output import lasting_output
from simplenet.errors import ServerError
from simplenet.settings import DEFAULT_PORT
from simplenet.signals import signals_interrupt

Model = Annotated[str | None, typer.Argument(help="Its name; may be left out if the server has only one.")]
_THIS_MACHINE = ("127.0.0.1", "localhost", "0.0.0.0", "::1")


def deploy(
    archive: Annotated[Path, typer.Argument(help="A .mar file, from simplenet archive with a new --version.")],
    port: Port = DEFAULT_PORT,
    url: Annotated[
        str | None, typer.Option(help="The server by its address on this machine, instead of --port.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="The version that was live keeps its workers, at its own address.")
    ] = False,
) -> None:
    """Make an archive the live version of its model on a running server, without losing a request."""
    from simplenet.server import deploy as deploy_to

    with signals_interrupt(), lasting_output():
        deploy_to(archive, port=port if url is None else port_of(url), keep=keep, say=typer.echo)


def rollback(model: Model = None, port: Port = DEFAULT_PORT) -> None:
    """Make the version that was live before live again, without losing a request."""
    from simplenet.server import rollback as roll_back

    with signals_interrupt(), lasting_output():
        roll_back(model, port=port, say=typer.echo)


def versions(
    model: Annotated[str | None, typer.Argument(help="Its name; by default all.")] = None,
    port: Port = DEFAULT_PORT,
    json: AsJson = False,
) -> None:
    """List the versions of each model on a running server: live, kept, previous, withdrawn."""
    from simplenet.server import versions as versions_on

    found = versions_on(model, port=port)
    if json:
        typer.echo(tables.as_json([{**asdict(each), "release": asdict(each.release)} for each in found]))
    else:
        console.print(tables.of_rollouts(found))


def port_of(url: str) -> int:
    """The port of a server on this machine.

    Raises:
        ServerError: the address is another machine's, or names no port.

    Example:
        >>> port_of("http://127.0.0.1:8080")
        8080
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise ServerError(f"--url: expected an address like http://127.0.0.1:8080, found {url!r}")
    if host not in _THIS_MACHINE:
        raise ServerError(f"--url: expected an address of this machine, found {host}; run simplenet deploy there")
    return port
