"""How TorchServe is started: configuration, command line, environment."""

import logging

import pytest

from simplenet import settings
from simplenet.errors import ServerError
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
