import errno
from pathlib import Path

import pytest
import redis
from support.disk.disks import RefusingDisk
from support.disk.spools import Spool

from inboxd.broker import outages
from inboxd.broker.outages import clear_outage, is_inbox_wide, read_outages, record_outage
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk


class DeniedDisk(Disk):
    """Lets nobody make a folder."""

    def mkdir(self, *_: object) -> None:
        raise PermissionError(errno.EACCES, "denied")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Spool.make(tmp_path / "drop").root


@pytest.mark.parametrize("code", outages.INBOX_WIDE_ERRORS, ids=errno.errorcode.get)
def test_what_every_file_would_meet_is_general(code: int, root: Path) -> None:
    assert is_inbox_wide(Disk(), root, OSError(code, "on purpose"))


def test_a_folder_that_is_away_is_general(root: Path) -> None:
    assert is_inbox_wide(Disk(), root, FolderUnavailable("gone"))


@pytest.mark.parametrize("error", [OSError(errno.ENAMETOOLONG, "too long"), ValueError("no"), OSError("without a number")])
def test_what_only_this_file_meets_is_not(error: Exception, root: Path) -> None:
    assert not is_inbox_wide(Disk(), root, error)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE])
def test_what_may_be_one_files_own_is_general_only_if_nothing_can_be_made_any_more(code: int, root: Path) -> None:
    refused = OSError(code, "denied")

    assert not is_inbox_wide(Disk(), root, refused)
    assert is_inbox_wide(DeniedDisk(), root, refused)
    assert is_inbox_wide(RefusingDisk("open_folder", b"done", errno.EACCES), root, refused)


def test_looking_for_it_leaves_nothing_behind(root: Path) -> None:
    is_inbox_wide(Disk(), root, PermissionError(errno.EACCES, "denied"))

    assert sorted(path.name for path in root.rglob("*")) == ["claimed", "done", "failed", "inbox"]


def test_word_of_trouble_is_news_once_is_read_by_all_and_is_taken_back(valkey: redis.Redis) -> None:
    assert record_outage(valkey, "here", "drop", "full")
    assert not record_outage(valkey, "here", "drop", "full")
    assert record_outage(valkey, "here", "drop", "read-only")

    assert read_outages(valkey, "here", ["drop", "other"]) == {"drop": "read-only"}
    assert read_outages(valkey, "elsewhere", ["drop"]) == {}
    assert 0 < valkey.ttl("inboxd:outage:here:drop") <= outages.EXPIRES_SECONDS
    assert clear_outage(valkey, "here", "drop", "")
    assert not clear_outage(valkey, "here", "drop", "")
    assert read_outages(valkey, "here", ["drop"]) == {}


def test_missing_folders_are_told_once_and_seen_by_everybody_for_himself(valkey: redis.Redis) -> None:
    assert record_outage(valkey, "here", "drop", "no done/", seen_by="missed")
    assert not record_outage(valkey, "here", "drop", "no done/", seen_by="missed")

    assert read_outages(valkey, "here", ["drop"]) == {}
    assert not clear_outage(valkey, "here", "drop", "", "stale")
    assert clear_outage(valkey, "here", "drop", "missed")


def test_without_a_broker_nobody_can_be_told() -> None:
    nobody = redis.Redis(unix_socket_path="/nowhere")

    with pytest.raises(BrokerUnavailable):
        record_outage(nobody, "here", "drop", "full")
    with pytest.raises(BrokerUnavailable):
        read_outages(nobody, "here", ["drop"])
