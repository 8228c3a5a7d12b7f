"""The `simplenet` command."""

from simplenet.cli.app import main

__all__ = ["main"]
