import errno
from pathlib import Path

import pytest
import redis
from support.disks import RefusingDisk
from support.spools import Spool

from inboxd.broker import outages
from inboxd.errors import BrokerAway, FolderAway
from inboxd.fs.syscalls import Disk


class DeniedDisk(Disk):
    """Lets nobody make a folder."""

    def mkdir(self, *_: object) -> None:
        raise PermissionError(errno.EACCES, "denied")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Spool.make(tmp_path / "drop").root


@pytest.mark.parametrize("code", outages.FULL, ids=errno.errorcode.get)
def test_what_every_file_would_meet_is_general(code: int, root: Path) -> None:
    assert outages.is_general(Disk(), root, OSError(code, "on purpose"))


def test_a_folder_that_is_away_is_general(root: Path) -> None:
    assert outages.is_general(Disk(), root, FolderAway("gone"))


@pytest.mark.parametrize("error", [OSError(errno.ENAMETOOLONG, "too long"), ValueError("no"), OSError("without a number")])
def test_what_only_this_file_meets_is_not(error: Exception, root: Path) -> None:
    assert not outages.is_general(Disk(), root, error)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE])
def test_what_may_be_one_files_own_is_general_only_if_nothing_can_be_made_any_more(code: int, root: Path) -> None:
    refused = OSError(code, "denied")

    assert not outages.is_general(Disk(), root, refused)
    assert outages.is_general(DeniedDisk(), root, refused)
    assert outages.is_general(RefusingDisk("open_folder", b"done", errno.EACCES), root, refused)


def test_looking_for_it_leaves_nothing_behind(root: Path) -> None:
    outages.is_general(Disk(), root, PermissionError(errno.EACCES, "denied"))

    assert sorted(path.name for path in root.rglob("*")) == ["claimed", "done", "failed", "inbox"]


def test_word_of_trouble_is_news_once_is_read_by_all_and_is_taken_back(valkey: redis.Redis) -> None:
    assert outages.note(valkey, "here", "drop", "full")
    assert not outages.note(valkey, "here", "drop", "full")
    assert outages.note(valkey, "here", "drop", "read-only")

    assert outages.read(valkey, "here", ["drop", "other"]) == {"drop": "read-only"}
    assert outages.read(valkey, "elsewhere", ["drop"]) == {}
    assert 0 < valkey.ttl("inboxd:trouble:here:drop") <= outages.EXPIRES_SECONDS
    assert outages.clear(valkey, "here", "drop", "")
    assert not outages.clear(valkey, "here", "drop", "")
    assert outages.read(valkey, "here", ["drop"]) == {}


def test_missing_folders_are_told_once_and_seen_by_everybody_for_himself(valkey: redis.Redis) -> None:
    assert outages.note(valkey, "here", "drop", "no done/", seen_by="missed")
    assert not outages.note(valkey, "here", "drop", "no done/", seen_by="missed")

    assert outages.read(valkey, "here", ["drop"]) == {}
    assert not outages.clear(valkey, "here", "drop", "", "stale")
    assert outages.clear(valkey, "here", "drop", "missed")


def test_without_a_broker_nobody_can_be_told() -> None:
    nobody = redis.Redis(unix_socket_path="/nowhere")

    with pytest.raises(BrokerAway):
        outages.note(nobody, "here", "drop", "full")
    with pytest.raises(BrokerAway):
        outages.read(nobody, "here", ["drop"])
