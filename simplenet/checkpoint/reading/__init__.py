"""Checkpoints of anybody's, read as data: nothing that a pickle names is imported or called."""

from simplenet.checkpoint.reading.stand_in import Global, StandIn
from simplenet.checkpoint.reading.torch_file import is_torch_zip, read_pickle, read_torch_zip

__all__ = ["Global", "StandIn", "is_torch_zip", "read_pickle", "read_torch_zip"]
