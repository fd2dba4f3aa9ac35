"""Tests on real mounts, each in a mount namespace of its own: the whole run is started by `make test-mounts` in one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.live.stand import Stand, Table
from support.mounts import BINDFS, FuseMount


@pytest.fixture
def fuse() -> Iterator[Callable[..., FuseMount]]:
    """Yield a function that mounts ``source`` at ``point``; all mounts end after the test."""
    with ExitStack() as stack:

        def mount(source: Path, point: Path, command: Sequence[str] = BINDFS) -> FuseMount:
            made = FuseMount(source, point, command)
            stack.callback(made.close)
            return made

        yield mount


@pytest.fixture
def make_stand(tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    """Yield a function that makes a stand; all stands are closed after the test."""
    with ExitStack() as stack:

        def make(inboxes: dict[str, Table] | None = None, **settings: Table) -> Stand:
            folder = tmp_path / "stand"
            folder.mkdir()
            return stack.enter_context(Stand(folder, inboxes, **settings))

        yield make
