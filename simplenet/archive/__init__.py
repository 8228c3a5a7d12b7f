"""Archives: a checkpoint, the handler and this library in one .mar file."""

from simplenet.archive.create import create_archive
from simplenet.archive.read import Archive, read_archive

__all__ = ["Archive", "create_archive", "read_archive"]
