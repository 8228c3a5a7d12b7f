"""The five ports of a server."""

import pytest

from simplenet.errors import ServerError
from simplenet.server.ports import check_ports


@pytest.mark.parametrize("host", ["::1", "", "no such host", "192.0.2.1"])
def test_a_host_that_is_not_an_ipv4_address_of_this_machine_is_refused(host):
    with pytest.raises(ServerError, match=r"host: expected an IPv4 address or a name of this machine"):
        check_ports(9200, host)
