"""What TorchServe gets of a version, and what the server's record says once that is live."""

from dataclasses import replace

import pytest

from simplenet.archive import read_archive
from simplenet.server.candidate import Candidate, candidate_of, with_version
from simplenet.server.deployments import release_of
from simplenet.server.record import Server


@pytest.fixture
def server(tmp_path):
    (tmp_path / "models").mkdir()
    return Server(
        1, 1, 0.0, ("a",), run_dir=tmp_path, versions={"a": "1"}, model_workers={"a": 1, "simplenet": 3},
        silent_models=("simplenet",), startup_timeout_s=40.0, response_timeout_s=30.0,
    )  # fmt: skip


@pytest.fixture
def archive(sample_archive):
    return read_archive(sample_archive)


@pytest.mark.parametrize(
    ("settings", "startup_s", "response_s"),
    [
        ({"responseTimeout": 300, "startupTimeout": 500}, 500, 300),
        ({"responseTimeout": 20, "startupTimeout": 20}, 40, 30),  # another model's requests may take as long as before
        ({}, 40, 120),  # TorchServe's own
        ({"responseTimeout": "soon"}, 40, 120),
    ],
)
def test_the_record_waits_as_long_as_the_slowest_version_may_take(server, archive, settings, startup_s, response_s):
    after = with_version(server, Candidate(replace(archive, settings=settings), "version-0.mar", 2, "hash"))
    assert (after.startup_timeout_s, after.response_timeout_s) == (startup_s, response_s)


def test_the_record_names_the_version_its_workers_and_a_sample(server, archive):
    after = with_version(server, Candidate(archive, "version-0.mar", 2, "hash"))
    assert after.models == ("a", "simplenet")
    assert after.versions == {"a": "1", "simplenet": archive.version}
    assert after.model_workers == {"a": 1, "simplenet": 2}
    assert after.silent_models == ()
    assert list(after.samples) == ["simplenet"]


def test_the_profile_that_the_server_was_started_with_replaces_the_archives_own(server, archive, tmp_path):
    release = release_of(archive, archive.path, "0123456789abcdef")
    profile = tmp_path / "four.yaml"
    profile.write_text("minWorkers: 4\nmaxWorkers: 4\n")
    own = candidate_of(server, None, archive, release)
    assert (own.archive.path, own.workers, own.file) == (archive.path, 3, "version-0123456789ab.mar")
    replaced = candidate_of(server, str(profile), archive, release)
    assert (replaced.archive.path, replaced.workers) == (tmp_path / "models" / archive.path.name, 4)
    assert replaced.archive.settings["minWorkers"] == 4
