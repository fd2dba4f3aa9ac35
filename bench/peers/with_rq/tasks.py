"""RQ's job."""

from bench.peers import work


def process(path: str) -> str:
    """Work on a file, and file it away."""
    sha256 = work.digest(path)
    work.file_away(path)
    return sha256
