"""The real prediction before a version becomes live, as far as it needs no TorchServe."""

import pytest

from simplenet.archive import read_archive
from simplenet.errors import ServerError
from simplenet.server.trial import try_version


def test_a_server_that_refuses_is_told_in_its_own_words(stand_in, sample_archive):
    one = stand_in("simplenet")
    one.set(predictions={"simplenet": 503})
    with pytest.raises(ServerError) as refused:
        try_version(one.server, read_archive(sample_archive))
    assert str(refused.value) == (
        "simplenet 1.0: expected predictions for its golden samples, found 503: the server is stopping; try again"
    )
