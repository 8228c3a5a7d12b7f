"""The `simplenet` command: how it reports an error or a signal.

Its imports take some tenths of a second, in which a signal may come too, so they are inside `main`.
"""

import sys


def main() -> None:
    """Run the command; an error is one line and exit code 1, a signal that no verb expects only exit code 130."""
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(130)


def _run() -> None:
    import typer

    from simplenet.cli.verbs import app
    from simplenet.errors import SimpleNetError
    from simplenet.text import visible

    try:
        app()
    except SimpleNetError as error:
        typer.echo(f"error: {visible(str(error))}", err=True)
        sys.exit(1)
    except OSError as error:
        typer.echo(f"error: {error.filename or 'file'}: {error.strerror or error}", err=True)
        sys.exit(1)
