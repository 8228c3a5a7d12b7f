"""Requests to this machine's own ports."""

import requests


def loopback_session() -> requests.Session:
    """A session that goes around proxies: one from the environment cannot reach this machine's ports."""
    session = requests.Session()
    session.trust_env = False
    return session
