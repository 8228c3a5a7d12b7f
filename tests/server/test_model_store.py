"""Which archives are served, and a request that shows each of them working."""

import json

import pytest
from torch import nn

from simplenet.archive import Archive, create_archive, read_archive
from simplenet.checkpoint import save_for_inference
from simplenet.checkpoint.save import inference_checkpoint
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


@pytest.mark.parametrize(
    ("shape", "content_type"),
    [(None, "image/png"), ((1, 28, 28), "image/png"), ((28, 28), "image/png"), ((4, 14, 14), "application/json")],
)
def test_the_sample_of_a_model_of_28_by_28_grey_pixels_is_the_digit(tmp_path, shape, content_type):
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    checkpoint = inference_checkpoint(network, model_config={"input_size": 784}, input_shape=shape)
    archive = Archive(tmp_path / "a.mar", "a", "1.0", None, {}, checkpoint)
    assert sample_request(archive, tmp_path)[0] == content_type
