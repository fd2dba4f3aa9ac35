"""RQ's job."""

from bench.peers import work


def process(path: str) -> str:
    """Hash a file and move it to done/."""
    sha256 = work.digest(path)
    work.move_to_done(path)
    return sha256
