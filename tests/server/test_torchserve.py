"""How TorchServe is started: configuration, command line, environment."""

import logging
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from simplenet import settings
from simplenet.errors import ServerError
from simplenet.paths import resource
from simplenet.server import torchserve


def test_archives_may_be_links_or_have_names_that_torchserve_cannot_read(tmp_path):
    archives = {"net": tmp_path / "é" / "a,b=c.mar", "other": tmp_path / "link.mar"}
    archives["net"].parent.mkdir()
    archives["net"].write_bytes(b"1")
    (tmp_path / "elsewhere.mar").write_bytes(b"2")
    archives["other"].symlink_to(tmp_path / "elsewhere.mar")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    config = torchserve.write_config(
        run_dir, archives, 9100, "127.0.0.1", {("net", "1.0"): 1, ("other", "1.0"): 1}
    ).read_text()
    assert f"model_store={run_dir / 'store'}\n" in config
    assert "load_models=net=net.mar,other=other.mar\n" in config
    assert [(run_dir / "store" / f"{name}.mar").read_bytes() for name in archives] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("workers", "line"),
    [
        ({("net", "1.0"): 2, ("other", "2.0"): 2}, "default_workers_per_model=2\n"),
        (
            {("net", "1.0"): 2, ("other", "2.0"): 1},
            'models={"net": {"1.0": {"minWorkers": 2, "maxWorkers": 2}}, '
            '"other": {"2.0": {"minWorkers": 1, "maxWorkers": 1}}}\n',
        ),
    ],
)
def test_torchserve_is_told_the_workers_of_each_model_where_they_differ(tmp_path, workers, line):
    assert line in torchserve.write_config(tmp_path, {}, 9100, "127.0.0.1", workers).read_text()


@pytest.mark.parametrize(
    ("given", "frontend", "workers"),
    [
        *[("trace", "trace", logging.DEBUG), ("all", "all", logging.DEBUG), ("fatal", "fatal", logging.CRITICAL)],
        *[("OFF", "off", logging.CRITICAL + 1), (None, "warn", logging.WARNING), ("", "warn", logging.WARNING)],
    ],
)
def test_one_log_level_means_the_same_to_the_frontend_and_the_workers(monkeypatch, tmp_path, given, frontend, workers):
    if given is None:
        monkeypatch.delenv("SIMPLENET_LOG_LEVEL", raising=False)
    else:
        monkeypatch.setenv("SIMPLENET_LOG_LEVEL", given)
    config = tmp_path / "config.properties"
    config.touch()
    assert f"-Dsimplenet.log.level={frontend}" in torchserve.command(tmp_path / "java", tmp_path, config, True)
    assert torchserve.environment(tmp_path, 1)["SIMPLENET_LOG_LEVEL"] == frontend  # unchanged: one vocabulary
    assert settings.worker_log_level() == workers


def test_an_unknown_log_level_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SIMPLENET_LOG_LEVEL", "loud")
    with pytest.raises(ServerError, match=r"SIMPLENET_LOG_LEVEL: expected one of 'off', .*found 'loud'"):
        torchserve.environment(tmp_path, 1)


def test_an_unknown_access_log_level_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SIMPLENET_ACCESS_LOG", "yes")
    with pytest.raises(ServerError, match=r"SIMPLENET_ACCESS_LOG: expected one of 'off', .*found 'yes'"):
        torchserve.environment(tmp_path, 1)


def test_the_workers_learn_where_to_write_and_which_frontend_runs(monkeypatch, tmp_path):
    monkeypatch.delenv("SIMPLENET_FRONTEND", raising=False)
    config = tmp_path / "config.properties"
    config.touch()
    torchserve.command(tmp_path / "java", tmp_path, config, least_delay=True)
    environment = torchserve.environment(tmp_path, 1)
    assert environment["SIMPLENET_STATE_DIR"] == str(tmp_path / "state")
    assert environment["SIMPLENET_FRONTEND_IN_USE"] == "fast"


STAMP = "2026-11-25T11:10:01,948 ERROR epollEventLoopGroup-3-1 - "


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("\nio.netty.channel.unix.Errors$NativeIoException: readAddress(..) failed: Connection reset by peer", True),
        (
            "\nio.netty.channel.unix.Errors$NativeIoException: writev(..) failed: Broken pipe\n\tat a.b(C.java:1)\n",
            True,
        ),
        ("\njava.io.IOException: Connection reset by peer\n\tat a.b(C.java:1)\n", True),
        ("\njava.net.SocketException: Connection reset\n", True),
        ("\njava.io.IOException: No space left on device\n", False),
        ("\njava.lang.OutOfMemoryError: Java heap space\n", False),
        ("Unknown exception\nio.netty.channel.unix.Errors$NativeIoException: Connection reset by peer\n", False),
    ],
)
def test_of_the_frontends_errors_only_that_a_client_left_is_dropped(text, dropped):
    """A worker's connection that is reset is logged with a message, a client's without one."""
    gone = ElementTree.parse(resource("config/log4j2.xml")).find("Properties/Property[@name='gone']").text
    assert (re.sub(gone, "", STAMP + text) == "") is dropped


def test_a_path_with_any_letters_arrives_where_it_should(tmp_path):
    value = "/Ünï 😀/a=b #1: \\"
    assert torchserve.as_property(value) == r"/\u00dcn\u00ef \ud83d\ude00/a=b #1: \\"


@pytest.mark.parametrize("language", ["C", "C.UTF-8", "no_SUCH.UTF-8"])
def test_java_reads_file_names_as_utf8_whatever_the_locale(language):
    program = """
import locale
from pathlib import Path
from simplenet.server import torchserve
environment = torchserve.environment(Path("run"), 1)
locale.setlocale(locale.LC_ALL, environment["LC_ALL"])
print(locale.nl_langinfo(locale.CODESET))
"""
    environment = {**os.environ, "LC_ALL": language}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "UTF-8\n"


def test_an_option_of_java_with_spaces_is_quoted_in_the_vmargs(tmp_path):
    config = tmp_path / "config.properties"
    config.write_text("vmargs=-Xmx1g '-Dmine=/a b'\n")
    assert {"-Xmx1g", "-Dmine=/a b"} <= set(torchserve.command(tmp_path / "java", tmp_path, config, True))
    config.write_text("vmargs=-Xmx1g '-Dmine=/a b\n")
    with pytest.raises(ServerError, match=r"config.properties: vmargs: No closing quotation"):
        torchserve.command(tmp_path / "java", tmp_path, config, True)
