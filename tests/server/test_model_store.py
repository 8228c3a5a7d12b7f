"""Which archives are served, and a request that shows each of them working."""

import json

import pytest

from simplenet.archive import create_archive, read_archive
from simplenet.checkpoint import save_for_inference
from simplenet.errors import ServerError
from simplenet.model import SimpleNet
from simplenet.server.model_store import require_writable, sample_request


def test_the_sample_of_a_model_called_server_leaves_the_servers_record_alone(tmp_path):
    save_for_inference(SimpleNet(9, 4, 3), tmp_path / "small.pt")
    archive = create_archive(tmp_path / "small.pt", model_name="server", export_path=tmp_path / "store")
    content_type, file = sample_request(read_archive(archive), tmp_path)
    assert content_type == "application/json"
    assert file.name != "server.json"
    assert len(json.loads(file.read_bytes())["instances"][0]) == 9


def test_an_empty_store_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=r"file/store: expected .mar files, or a folder .* Not a directory"):
        require_writable(tmp_path / "file" / "store")
