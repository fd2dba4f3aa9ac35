"""Find an unused TCP port."""

import socket


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is unused now; another process may bind it before the caller does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
