"""Who may see done/ and failed/: access lists on the folders, and on the sub-folders and notes that are made in them later."""

import errno
import os
import struct
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.disk.failed_files import drop_and_fail
from support.disk.spools import Spool

from inboxd.config.settings import Settings
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.service.preflight import find_problems
from inboxd.service.visibility import share_folders

ACCESS_LIST = "system.posix_acl_access"
GROUP, OTHER = 8, 32


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool.make(tmp_path / "drop")
    for folder, mode in (("inbox", 0o730), ("claimed", 0o700), ("done", 0o750), ("failed", 0o750)):
        (spool.root / folder).chmod(mode)
    return spool


def share(spool: Spool, visible_to: str, disk: Disk | None = None) -> Settings:
    settings = Settings(inbox={"drop": {"root": spool.root, "visible_to": visible_to}})
    share_folders(settings, disk)
    return settings


def granted(path: Path, tag: int) -> dict[int, int]:
    """Return permissions by id of the entries with a tag, such as named groups."""
    packed = os.getxattr(path, ACCESS_LIST)
    return {who: permissions for kind, permissions, who in struct.iter_unpack("<HHI", packed[4:]) if kind == tag}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(("inbox_mode", "see", "read"), [(0o730, 1, 4), (0o770, 5, 4), (0o700, 0, 0)])
def test_droppers_see_in_failed_what_they_see_in_inbox_and_may_not_write(
    spool: Spool, inbox_mode: int, see: int, read: int
) -> None:
    (spool.root / "inbox").chmod(inbox_mode)
    group = (spool.root / "inbox").stat().st_gid

    share(spool, "droppers")
    umask = os.umask(0o077)
    drop_and_fail(spool, b"x/a.pdf")
    os.umask(umask)

    for folder in ("done", "failed", "failed/x"):
        assert granted(spool.root / folder, GROUP) == {group: see}
    assert granted(spool.root / "failed/x/a.pdf.error.txt", GROUP) == {group: read}
    assert set(granted(spool.root / "failed/x/a.pdf.error.txt", OTHER).values()) == {0}
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.getxattr(spool.root / "claimed", ACCESS_LIST)


def test_the_group_may_list_and_read(spool: Spool) -> None:
    share(spool, "group")

    assert granted(spool.root / "failed", GROUP) == {os.getegid(): 5}


def test_nobody_is_the_default_and_changes_nothing(spool: Spool) -> None:
    share(spool, "nobody")
    drop_and_fail(spool, b"x/a.pdf")

    for path in ("done", "failed", "failed/x", "failed/x/a.pdf.error.txt"):
        assert os.listxattr(spool.root / path) == []
    assert (mode(spool.root / "done"), mode(spool.root / "failed")) == (0o750, 0o750)


def test_a_change_back_to_nobody_restores_the_folders(spool: Spool) -> None:
    (spool.root / "inbox").chmod(0o775)
    share(spool, "droppers")
    assert mode(spool.root / "failed") & 0o007 == 0o005

    share(spool, "nobody")

    assert (mode(spool.root / "done"), mode(spool.root / "failed")) == (0o750, 0o750)
    assert os.listxattr(spool.root / "failed") == []


def test_a_list_that_an_administrator_has_set_is_kept_and_told(spool: Spool) -> None:
    entries = [(1, 7, 0xFFFFFFFF), (4, 5, 0xFFFFFFFF), (8, 5, 4242), (16, 5, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    own = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(spool.root / "failed", ACCESS_LIST, own)

    settings = share(spool, "droppers")

    assert os.getxattr(spool.root / "failed", ACCESS_LIST) == own
    (finding,) = find_problems(settings, handlers=False)
    assert "access list of its own" in finding.problem
    assert not finding.blocks


class WithoutLists(Disk):
    """A file system that keeps no attributes."""

    def save_attribute(self, *_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def test_where_lists_are_not_possible_the_folders_stay_closed_and_the_log_and_check_say_so(spool: Spool) -> None:
    with capture_logs() as lines:
        settings = share(spool, "droppers", WithoutLists())

    assert [line["event"] for line in lines] == [events.FOLDER_NOT_SHARED]
    assert mode(spool.root / "failed") == 0o750
    assert {finding.problem for finding in find_problems(settings, handlers=False)} == {"is not yet visible as 'droppers' says"}


def test_a_second_start_changes_nothing(spool: Spool) -> None:
    share(spool, "droppers")
    before = (spool.root / "failed").stat().st_ctime_ns

    with capture_logs() as lines:
        settings = share(spool, "droppers")

    assert (lines, (spool.root / "failed").stat().st_ctime_ns) == ([], before)
    assert find_problems(settings, handlers=False) == []
