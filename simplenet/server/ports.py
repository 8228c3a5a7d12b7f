"""The five ports of a server."""

import socket

from simplenet.errors import ServerError
from simplenet.server.record import find

PORT_NAMES = ("inference", "management", "metrics", "gRPC inference", "gRPC management")


def check_ports(port: int, host: str = "127.0.0.1") -> str:
    """Check that the address is this machine's and all five ports are free.

    Returns:
        The IPv4 address that the host's name stands for.

    Raises:
        ServerError: names the wrong address or port.
    """
    if not 1 <= port <= 65535 - len(PORT_NAMES) + 1:
        raise ServerError(f"port: expected 1 to {65535 - len(PORT_NAMES) + 1}, found {port}")
    with socket.socket() as probe:
        try:
            probe.bind((host or "?", 0))
            address = str(probe.getsockname()[0])
        except (OSError, UnicodeError) as error:
            raise ServerError(
                f"host: expected an IPv4 address or a name of this machine (0.0.0.0 for all), found {host!r}"
            ) from error
    for offset, name in enumerate(PORT_NAMES):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address if offset == 0 else "127.0.0.1", port + offset))
            except OSError as error:
                raise ServerError(
                    f"port {port + offset} ({name}): {error.strerror}; {_stop_ours(port)}choose another with --port"
                ) from error
    return address


def _stop_ours(port: int) -> str:
    """How to stop the server that was started here and runs on the port, if one does."""
    try:
        runs = find(port).process() is not None
    except ServerError:
        return ""
    return f"a server that was started here runs there: simplenet stop --port {port}, or " if runs else ""
