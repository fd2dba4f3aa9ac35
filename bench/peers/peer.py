"""A peer: what is measured beside inboxd, and how it is started."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BUILD = REPOSITORY / "build" / "bench"
NODE = BUILD / "node"
PYTHON = BUILD / "venv" / "bin" / "python"
"""The peers' own Python: nothing of theirs is installed beside inboxd."""


@dataclass(frozen=True)
class Place:
    """Where a peer runs: ``root`` holds inbox/, claimed/ and done/; the server listens on ``socket``."""

    root: Path
    socket: Path

    @property
    def url(self) -> str:
        """The server's address."""
        return f"unix://{self.socket}"

    def environment(self) -> dict[str, str]:
        """Return what a peer's processes are told."""
        return {"BENCH_ROOT": str(self.root), "BENCH_URL": self.url, "PYTHONPATH": str(REPOSITORY)}


@dataclass(frozen=True)
class Command:
    """One process that a peer consists of."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """One way to run a drop folder. ``runtime`` is what must have been installed for it: "python", "node" or ""."""

    name: str
    title: str
    runtime: str
    commands: Callable[[Place], Sequence[Command]]
