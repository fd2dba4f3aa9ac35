"""Cut the power amid a move to another file system: what was not synced is gone, and the file is still somewhere."""

import itertools
import os
from pathlib import Path

import pytest
from support.crash.fuse import Blown, Fuse
from support.crash.spool_scenarios import FILING, Way, places
from support.disk.disks import TwoDisks
from support.disk.spools import Spool

from inboxd.fs.syscalls import Fd

WAYS = [way for way in FILING if way.name in ("done", "done, its name taken", "failed")]


class PowerlessDisk(TwoDisks):
    """Knows which bytes and which names were not synced. A name that was taken away is gone at once: the worst that can be."""

    def __init__(self) -> None:
        self._bytes: set[int] = set()
        self._names: set[Path] = set()

    def create(self, at: Fd, name: bytes, mode: int) -> Fd:
        file = super().create(at, name, mode)
        self._bytes.add(self.fstat(file).ino)
        self._names.add(_path(at) / os.fsdecode(name))
        return file

    def write(self, fd: Fd, data: bytes) -> None:
        super().write(fd, data)
        self._bytes.add(self.fstat(fd).ino)

    def link(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        super().link(src_at, src, dst_at, dst)
        self._names.add(_path(dst_at) / os.fsdecode(dst))

    def fsync(self, fd: Fd) -> None:
        self._bytes.discard(self.fstat(fd).ino)
        self._names = {path for path in self._names if path.parent != _path(fd)}

    def cut(self, root: Path) -> None:
        """Take away what was not synced."""
        for path in self._names:
            path.unlink(missing_ok=True)
        for path in root.rglob("*"):
            if path.is_file() and path.stat().st_ino in self._bytes:
                path.write_bytes(b"")


def _path(at: Fd) -> Path:
    return Path(f"/proc/self/fd/{at}").readlink()


def act(way: Way, spool: Spool, disk: object) -> bool:
    """Walk a way; tell whether the fuse has blown on it."""
    try:
        with spool.folders() as folders:
            way.act(disk, folders, spool.inbox())  # type: ignore[arg-type]
    except Blown:
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_power_cut_at_any_operation_of_a_copy_loses_nothing_and_the_next_pass_files_it(
    way: Way, after: bool, tmp_path: Path
) -> None:
    for point in itertools.count(1):
        spool, disk = way.arrange(tmp_path / str(point)), PowerlessDisk()
        blown = act(way, spool, Fuse(disk, point, after=after))
        disk.cut(spool.root)

        assert places(spool.files()).keys() >= way.contents

        with spool.folders() as folders:
            way.recover(TwoDisks(), folders, spool.inbox())
        assert {data: len(paths) for data, paths in places(spool.files()).items()} == dict.fromkeys(way.contents, 1)
        if not blown:
            break

    assert point > 10
