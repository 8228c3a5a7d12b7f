"""The keys of a checkpoint, defined once."""

from simplenet import preprocessing

CURRENT_FORMAT = 1  # what this library writes as FORMAT_VERSION, and the latest that it reads

MODEL_STATE_DICT = "model_state_dict"
MODEL_CONFIG = "model_config"
METADATA = "metadata"
GOLDEN = "golden"
CLASSES = "classes"

# What the network takes and gives, if not flat rows and logits.
INPUT_SHAPE = preprocessing.INPUT_SHAPE
PREPROCESSING = preprocessing.PREPROCESSING
OUTPUT = preprocessing.OUTPUT

# For resuming training.
OPTIMIZER_STATE_DICT = "optimizer_state_dict"
SCHEDULER_STATE_DICT = "scheduler_state_dict"
SCALER_STATE_DICT = "scaler_state_dict"
EPOCH = "epoch"
LOSS = "loss"
RNG_STATE = "rng_state"

# The keys of the metadata that the library writes itself.
FORMAT_VERSION = "format_version"
CONTENT_HASH = "content_hash"
TIMESTAMP = "timestamp"
PYTORCH_VERSION = "pytorch_version"
PARENT_HASH = "parent_hash"
CERTIFICATE = "certificate"
SERVED_HASH = "served_hash"  # over INPUT_SHAPE, PREPROCESSING and OUTPUT, if there are any
