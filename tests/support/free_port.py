"""A port that nobody listens on just now."""

import socket


def free_port() -> int:
    """Return a port of the loopback's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
