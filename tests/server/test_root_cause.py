import pytest

from simplenet.server.root_cause import died_silently, failed_models, failure_since, load_failed, log_sizes, root_cause

STAMP = "2026-01-02T03:04:05,678 INFO  W-9000-simplenet_1.0-stdout - "


def logs(folder, **files):
    for name, lines in files.items():
        (folder / f"{name}.log").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        pytest.param(
            {
                "model_log": [
                    STAMP + "Backend worker process died.",
                    STAMP + "Traceback (most recent call last):",
                    STAMP + '  File "worker.py", line 1, in <module>',
                    STAMP + "simplenet.errors.HashMismatchError: checkpoint.pt: the weights are not the ones",
                ]
            },
            "checkpoint.pt: the weights are not the ones",
            id="a refusal of ours is its message alone",
        ),
        pytest.param(
            {"model_log": [STAMP + "RuntimeError: CUDA error: out of memory"]},
            "RuntimeError: CUDA error: out of memory",
            id="any other keeps its type",
        ),
        pytest.param(
            {
                "model_log": [
                    STAMP + "ModuleNotFoundError: No module named 'yaml'",
                    STAMP + "During handling of the above exception, another exception occurred:",
                    STAMP + "ModuleNotFoundError: No module named 'ts.torch_handler.simplenet_handler'",
                ]
            },
            "ModuleNotFoundError: No module named 'yaml'",
            id="TorchServe's second exception hides the first",
        ),
        pytest.param(
            {"model_log": ["nothing of note"], "console": ["java.lang.OutOfMemoryError: Java heap space"]},
            "OutOfMemoryError: Java heap space",
            id="the console where the worker says nothing",
        ),
        pytest.param(
            {
                "ts_log": [
                    "2026-01-02T03:04:05,678 ERROR W-9000-simplenet_1.0 - Backend worker error",
                    "org.pytorch.serve.wlm.WorkerInitializationException: Failed start worker process",
                    "\tat org.pytorch.serve.wlm.WorkerLifeCycle.startWorkerPython(WorkerLifeCycle.java:239)",
                    'Caused by: java.io.IOException: Cannot run program "/usr/bin/python3" (in directory '
                    '"/run/tmp/models/a1"): error=2, No such file or directory',
                    "\tat java.lang.ProcessBuilder.start(ProcessBuilder.java:1143)",
                    "Caused by: java.io.IOException: error=2, No such file or directory",
                    "\t... 4 more",
                ]
            },
            'IOException: Cannot run program "/usr/bin/python3" (in directory "/run/tmp/models/a1"): error=2, No such '
            "file or directory",
            id="Java's cause of a cause says less",
        ),
        pytest.param({"console": ["first", "", "last words", ""]}, "last words", id="else the console's last line"),
        pytest.param({}, "it left no message", id="no logs"),
    ],
)
def test_the_root_cause_is_one_line(tmp_path, files, cause):
    assert root_cause(logs(tmp_path, **files)) == cause


@pytest.mark.parametrize(
    ("worker", "models", "cause"),
    [
        ("W-9000-simplenet_1.0-stdout", ["simplenet"], "KeyError: 'x'"),
        ("W-9001-my_net_2.0-stderr", ["my", "my_net"], "my_net: KeyError: 'x'"),
        ("main", ["my", "my_net"], "KeyError: 'x'"),
    ],
)
def test_of_several_models_the_one_that_failed_is_named(tmp_path, worker, models, cause):
    folder = logs(tmp_path, model_log=[f"2026-01-02T03:04:05,678 INFO  {worker} - KeyError: 'x'"])
    assert root_cause(folder, models) == cause


@pytest.mark.parametrize(
    ("files", "failed"),
    [
        ({}, False),
        ({"model_log": [STAMP + "Torch worker started."]}, False),
        ({"model_log": [STAMP + "Backend worker process died."]}, True),
        ({"ts_log": ["WorkerThread - Backend worker error"]}, True),
    ],
)
def test_a_worker_that_gave_up_is_noticed(tmp_path, files, failed):
    assert load_failed(logs(tmp_path, **files)) is failed


@pytest.mark.parametrize("log", ["model_log", "ts_log", "console"])
@pytest.mark.parametrize(
    "text", ["java.io.IOException: No space left on device", "OSError: [Errno 122] Disk quota exceeded"]
)
def test_a_full_disk_is_noticed_whoever_says_so(tmp_path, log, text):
    assert load_failed(logs(tmp_path, **{log: [text]}))


def test_each_model_that_failed_is_named_with_its_own_cause(tmp_path):
    def line(model, text):
        return f"2026-01-02T03:04:05,678 INFO  W-9000-{model}_1.0-stdout - {text}"

    died = "Backend worker process died."
    lines = [line("net", died), line("other", "UserWarning: fine"), line("net_b", died)]
    lines += [line("net", "KeyError: 'x'"), line("net_b", "simplenet.errors.HashMismatchError: b: not the ones")]
    frontend = ["2026-01-02T03:04:06,000 ERROR W-9003-silent_1.0 - Backend worker error"]
    models = ["net", "net_b", "other", "silent"]
    assert failed_models(logs(tmp_path, model_log=lines, ts_log=frontend), models) == {
        "net": "KeyError: 'x'",
        "net_b": "b: not the ones",
        "silent": "it left no message",
    }
    assert failed_models(tmp_path / "missing", models) == {}


def test_the_failure_of_one_version_is_not_that_of_another_or_of_before(tmp_path):
    before = [STAMP + "Backend worker process died.", STAMP + "RuntimeError: an earlier one"]
    logs(
        tmp_path, model_log=before, ts_log=["2026-01-02T03:04:05,678 ERROR W-9000-simplenet_1.0 - Backend worker error"]
    )
    sizes = log_sizes(tmp_path)
    assert failure_since(tmp_path, {}, "simplenet_1.0") == "RuntimeError: an earlier one"
    assert failure_since(tmp_path, sizes, "simplenet_1.0") is None
    other = STAMP.replace("simplenet_1.0", "simplenet_2.0")
    logs(tmp_path, model_log=[*before, other + "Backend worker process died.", other + "ValueError: the new one"])
    assert failure_since(tmp_path, sizes, "simplenet_1.0") is None
    assert failure_since(tmp_path, sizes, "simplenet_2.0") == "ValueError: the new one"


def test_a_worker_that_is_killed_dies_silently_and_one_that_says_why_does_not(tmp_path):
    frontend = [STAMP + "Backend worker error", "WorkerInitializationException: Backend stream closed."]
    logs(tmp_path, model_log=[STAMP + "loading"], ts_log=frontend)
    assert failure_since(tmp_path, {}, "simplenet_1.0") == "WorkerInitializationException: Backend stream closed."
    assert died_silently(tmp_path, {}, "simplenet_1.0")
    logs(tmp_path, model_log=[STAMP + "loading", STAMP + "KeyError: 'weights'"], ts_log=frontend)
    assert not died_silently(tmp_path, {}, "simplenet_1.0")
    assert died_silently(tmp_path, {}, "simplenet_2.0")
    assert died_silently(tmp_path, log_sizes(tmp_path), "simplenet_1.0")
