"""Power cuts during a move to another file system: without the unsynced data, the file still exists somewhere."""

import itertools
import os
from pathlib import Path

import pytest
from support.crash.fuse import Fuse, ProcessDied
from support.crash.spool_scenarios import FILING, SpoolScenario, places
from support.disk.disks import TwoDisks
from support.disk.spools import Spool

from inboxd.fs.syscalls import Fd

SCENARIOS = [scenario for scenario in FILING if scenario.name in ("done", "done, its name taken", "failed")]


class PowerlessDisk(TwoDisks):
    """Tracks the bytes and names that were not synced. A removed name is removed at once, which is the worst case."""

    def __init__(self) -> None:
        self._unsynced_inodes: set[int] = set()
        self._unsynced_paths: set[Path] = set()

    def create(self, at: Fd, name: bytes, mode: int) -> Fd:
        file = super().create(at, name, mode)
        self._unsynced_inodes.add(self.fstat(file).ino)
        self._unsynced_paths.add(_path(at) / os.fsdecode(name))
        return file

    def write(self, fd: Fd, data: bytes) -> None:
        super().write(fd, data)
        self._unsynced_inodes.add(self.fstat(fd).ino)

    def link(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        super().link(src_at, src, dst_at, dst)
        self._unsynced_paths.add(_path(dst_at) / os.fsdecode(dst))

    def fsync(self, fd: Fd) -> None:
        self._unsynced_inodes.discard(self.fstat(fd).ino)
        self._unsynced_paths = {path for path in self._unsynced_paths if path.parent != _path(fd)}

    def cut(self, root: Path) -> None:
        """Remove the names and the bytes that were not synced."""
        for path in self._unsynced_paths:
            path.unlink(missing_ok=True)
        for path in root.rglob("*"):
            if path.is_file() and path.stat().st_ino in self._unsynced_inodes:
                path.write_bytes(b"")


def _path(at: Fd) -> Path:
    return Path(f"/proc/self/fd/{at}").readlink()


def act_until_blown(scenario: SpoolScenario, spool: Spool, disk: object) -> bool:
    """Run a scenario's action; return whether the fuse blew."""
    try:
        with spool.folders() as folders:
            scenario.act(disk, folders, spool.inbox())  # type: ignore[arg-type]
    except ProcessDied:
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_power_cut_at_any_operation_of_a_copy_loses_nothing_and_the_next_pass_files_it(
    scenario: SpoolScenario, after: bool, tmp_path: Path
) -> None:
    for point in itertools.count(1):
        spool, disk = scenario.arrange(tmp_path / str(point)), PowerlessDisk()
        is_blown = act_until_blown(scenario, spool, Fuse(disk, point, after=after))
        disk.cut(spool.root)

        assert places(spool.files()).keys() >= scenario.contents

        with spool.folders() as folders:
            scenario.recover(TwoDisks(), folders, spool.inbox())
        assert {data: len(paths) for data, paths in places(spool.files()).items()} == dict.fromkeys(scenario.contents, 1)
        if not is_blown:
            break

    assert point > 10
