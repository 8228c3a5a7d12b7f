"""What can be said of starting and stopping without a TorchServe."""

import json
import os
import subprocess
import sys

import pytest

from simplenet.archive import create_archive
from simplenet.checkpoint import save_for_inference
from simplenet.errors import ServerError
from simplenet.model import SimpleNet
from simplenet.serving import server as ts
from simplenet.serving.store import sample_request


def test_a_record_in_a_folder_of_somebody_else_stops_nothing(tmp_path, monkeypatch):
    record = tmp_path / "9100" / "server.json"
    record.parent.mkdir()
    values = {"port": 9100, "pid": os.getpid(), "models": [], "run_dir": str(tmp_path)}
    values["started"] = ts.psutil.Process().create_time()
    record.write_text(json.dumps(values))
    monkeypatch.setattr(ts, "run_root", lambda: tmp_path)
    assert ts.find(9100).pid == os.getpid()
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ServerError, match="no server"):
        ts.find(9100)


def test_archives_may_be_links_or_have_names_that_torchserve_cannot_read(tmp_path):
    archives = {"net": tmp_path / "é" / "a,b=c.mar", "other": tmp_path / "link.mar"}
    archives["net"].parent.mkdir()
    archives["net"].write_bytes(b"1")
    (tmp_path / "elsewhere.mar").write_bytes(b"2")
    archives["other"].symlink_to(tmp_path / "elsewhere.mar")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    config = ts._write_config(run_dir, archives, 9100, "127.0.0.1", 1).read_text()
    assert f"model_store={run_dir / 'store'}\n" in config
    assert "load_models=net=net.mar,other=other.mar\n" in config
    assert [(run_dir / "store" / f"{name}.mar").read_bytes() for name in archives] == [b"1", b"2"]


def test_the_sample_of_a_model_called_server_leaves_the_servers_record_alone(tmp_path):
    save_for_inference(SimpleNet(9, 4, 3), tmp_path / "small.pt")
    archive = create_archive(tmp_path / "small.pt", model_name="server", export_path=tmp_path / "store")
    content_type, file = sample_request(archive, tmp_path)
    assert content_type == "application/json"
    assert file.name != "server.json"
    assert len(json.loads(file.read_bytes())["instances"][0]) == 9


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_ends_the_server_unless_nohup_says_otherwise(ignored):
    program = f"""
import os, signal
from simplenet.serving import server as ts
ts.start = lambda archives: "server"
ts.stop_server = lambda server: print("stopped")
signal.signal(signal.SIGHUP, signal.{"SIG_IGN" if ignored else "SIG_DFL"})
try:
    with ts.started({{}}):
        os.kill(os.getpid(), signal.SIGHUP)
        print("went on")
except KeyboardInterrupt:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == ("went on" if ignored else "stopped")
