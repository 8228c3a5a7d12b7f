"""Every environment variable that the library reads, in one table, and the defaults that several rooms share."""

import logging
import os
from dataclasses import dataclass

from simplenet.errors import SettingError
from simplenet.text import quoted

logger = logging.getLogger(__name__)

DEFAULT_PORT = 8080
DEFAULT_MODEL_NAME = "simplenet"
# Bytes of the message with all responses of a batch on a stock frontend, unless one may be larger. TorchServe's
# ModelResponseDecoder begins at the front again with every piece that it receives and copies each complete response
# anew: on two cores 22 MB in 8 responses took 3 s, 62 MB in 22 took 21 s, and 112 MB in 40 longer than a
# responseTimeout of 60 s.
LARGEST_BATCH_RESPONSE = 32 << 20
DEFAULT_RESPONSE_TIMEOUT_S = 120  # TorchServe's, where a model-config has none
MAX_QUEUE_WAIT_S = 10.0
RECOVERY_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 30.0
DEFAULT_RETRIES = 5  # of a client; with its waits they bridge about 3 s, in which a worker that died is replaced


@dataclass(frozen=True)
class Variable:
    """One environment variable."""

    name: str
    default: str  # what an unset or empty variable means
    meaning: str  # one line for `--help` and the README
    values: tuple[str, ...] = ()  # the valid values; if empty, any text

    def read(self) -> str:
        """Its current value, or the default.

        Raises:
            SettingError: the value is not one of `values`.
        """
        value = os.environ.get(self.name) or self.default
        if self.values and value.lower() not in self.values:
            raise SettingError(f"{self.name}: expected one of {quoted(self.values)}, found {value!r}")
        return value.lower() if self.values else value

    def read_or_warn(self) -> str:
        """`read` in a worker: on a stock TorchServe nobody has checked the value, which must not keep a model away."""
        try:
            return self.read()
        except SettingError as error:
            logger.warning("%s; taking %r", error, self.default)
            return self.default


# Frontend and workers both take log4j's names; a worker uses the corresponding Python level.
_PYTHON_LEVELS = {
    "off": logging.CRITICAL + 1,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
    "all": logging.DEBUG,
}
_LEVELS_BY_PYTHONS_NAME = {"critical": "fatal", "warning": "warn", "notset": "all"}  # where it has another
LOG_LEVEL = Variable(
    "SIMPLENET_LOG_LEVEL", "warn", "least level of both logs, the frontend's and the workers'", (*_PYTHON_LEVELS,)
)
ACCESS_LOG = Variable(
    "SIMPLENET_ACCESS_LOG", "off", "info writes a line per request to access_log.log", (*_PYTHON_LEVELS,)
)
WIRE = Variable(
    "SIMPLENET_WIRE", "fast", "stock keeps TorchServe's own reader and writer in the workers", ("fast", "stock")
)
FRONTEND = Variable("SIMPLENET_FRONTEND", "fast", "stock keeps TorchServe's frontend as it is", ("fast", "stock"))
JAVA_HOME = Variable("JAVA_HOME", "", "Java runtime to use instead of the one from PyPI")
THREADS = Variable("OMP_NUM_THREADS", "", "threads per worker; by default the cores but one, shared among the workers")
VISIBLE_GPUS = Variable("CUDA_VISIBLE_DEVICES", "", "numbers of the GPUs to use; by default all")
MEMORY = Variable("SIMPLENET_MEMORY", "", "memory to use, like 1500m or 2g; by default all of the machine or cgroup")
STATE_HOME = Variable("XDG_STATE_HOME", "", "where the run directories are, in simplenet/; by default ~/.local/state")
# Set by `serve` for the workers.
STATE_DIR = Variable("SIMPLENET_STATE_DIR", "", "folder of the workers' state files; set by serve")
FRONTEND_IN_USE = Variable("SIMPLENET_FRONTEND_IN_USE", "stock", "which classes of the frontend run; set by serve")
MAX_RESPONSE = Variable("SIMPLENET_MAX_RESPONSE", "", "bytes of one response; set by serve")
MAX_BATCH_RESPONSE = Variable("SIMPLENET_MAX_BATCH_RESPONSE", "", "bytes of a batch's responses; set by serve")

# What a user may set, in the order of the README and of `simplenet serve --help`.
VARIABLES = (LOG_LEVEL, ACCESS_LOG, MEMORY, WIRE, FRONTEND, JAVA_HOME, THREADS, VISIBLE_GPUS, STATE_HOME)


def check_settings() -> None:
    """Read every variable, so that a wrong value is refused before anything starts.

    Raises:
        SettingError: a variable has an invalid value.
    """
    for variable in VARIABLES:
        variable.read()


def help_text() -> str:
    """The table for `--help`: a paragraph for each variable, wrapped by the terminal.

    Example:
        >>> print(help_text().split(chr(10) * 2)[4])
        SIMPLENET_WIRE: stock keeps TorchServe's own reader and writer in the workers (fast, stock; default fast)
    """
    lines = ["Environment variables:"]
    for variable in VARIABLES:
        default = f"default {variable.default}" if variable.default else ""
        notes = "; ".join(note for note in (", ".join(variable.values), default) if note)
        lines.append(f"{variable.name}: {variable.meaning}" + (f" ({notes})" if notes else ""))
    return (2 * chr(10)).join(lines)


def worker_log_level() -> int:
    """LOG_LEVEL as a level of Python's logging.

    Python's own names are levels too: `serve` refuses them, but on a stock TorchServe they may be set.
    """
    given = (os.environ.get(LOG_LEVEL.name) or "").lower()
    return _PYTHON_LEVELS[_LEVELS_BY_PYTHONS_NAME.get(given) or LOG_LEVEL.read_or_warn()]
