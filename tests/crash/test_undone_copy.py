"""A process dies at every operation of a copy that it has to undo: the next attempt moves the file once."""

import itertools
import os
from pathlib import Path

from support.crash.crash_points import record_crash_point
from support.crash.fuse import Fuse, ProcessDied
from support.disk.disks import TwoDisks

from inboxd.fs.rename import move
from inboxd.fs.syscalls import Fd


class SourceKeepingDisk(TwoDisks):
    """Its first folder is read-only."""

    def __init__(self, source: Fd) -> None:
        self._source = source

    def unlink(self, at: Fd, name: bytes) -> None:
        if at == self._source:
            raise PermissionError("read-only")
        super().unlink(at, name)


def test_after_a_crash_in_an_undone_copy_the_next_attempt_moves_the_file_once(tmp_path: Path) -> None:
    for point in itertools.count(1):
        src, dst = tmp_path / f"src{point}", tmp_path / f"dst{point}"
        src.mkdir()
        dst.mkdir()
        (src / "f").write_bytes(b"content")
        src_at, dst_at = os.open(src, os.O_RDONLY), os.open(dst, os.O_RDONLY)
        has_died = False

        try:
            move(Fuse(SourceKeepingDisk(src_at), point), src_at, b"f", dst_at, b"f")
        except ProcessDied:
            has_died = True
        except PermissionError:
            assert list(dst.iterdir()) == []
        assert (src / "f").read_bytes() == b"content"
        move(TwoDisks(), src_at, b"f", dst_at, b"f")

        assert list(src.iterdir()) == []
        assert [(path.name, path.read_bytes()) for path in dst.iterdir()] == [("f", b"content")]
        os.close(src_at)
        os.close(dst_at)
        if not has_died:
            break
        record_crash_point("undone copy", "dies", point, "copy")
    assert point > 10
