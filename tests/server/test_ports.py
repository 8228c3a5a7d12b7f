"""The five ports of a server."""

import pytest
from support import free_port

from simplenet.errors import ServerError
from simplenet.server.ports import check_ports
from simplenet.server.record import Server


@pytest.mark.parametrize("host", ["::1", "", "no such host", "192.0.2.1"])
def test_a_host_that_is_not_an_ipv4_address_of_this_machine_is_refused(host):
    with pytest.raises(ServerError, match=r"host: expected an IPv4 address or a name of this machine"):
        check_ports(9200, host)


@pytest.mark.parametrize(("host", "address"), [("localhost", "127.0.0.1"), ("127.1", "127.0.0.1"), ("0", "0.0.0.0")])
def test_a_host_is_known_by_its_address_whatever_becomes_of_the_name(host, address):
    assert check_ports(free_port(), host) == address
    assert Server(9200, 1, 2.0, (), host=host, address=address).loopback_url == "http://127.0.0.1:9200"


def test_a_port_that_a_server_of_ours_has_is_refused_with_how_to_stop_it(stand_in):
    port = stand_in().server.port
    with pytest.raises(ServerError, match=rf"in use; a server .* runs there: simplenet stop --port {port}, or choose"):
        check_ports(port)
