"""Peers, the programs that inboxd is compared with, and the commands that start them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BUILD = REPOSITORY / "build" / "bench"
NODE = BUILD / "node"
PYTHON = BUILD / "venv" / "bin" / "python"
"""The Python of the peers' venv, which keeps their packages apart from inboxd's."""


@dataclass(frozen=True)
class Place:
    """Where a peer runs: ``root`` holds inbox/, claimed/ and done/; the server listens on ``socket``."""

    root: Path
    socket: Path

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"unix://{self.socket}"

    def environment(self) -> dict[str, str]:
        """Return the environment variables for a peer's processes."""
        return {"BENCH_ROOT": str(self.root), "BENCH_URL": self.url, "PYTHONPATH": str(REPOSITORY)}


@dataclass(frozen=True)
class Command:
    """The command line and environment of one of a peer's processes."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A drop-folder implementation. ``runtime`` names the packages that it needs: "python", "node" or ""."""

    name: str
    title: str
    runtime: str
    commands: Callable[[Place], Sequence[Command]]
