"""Outages of an inbox: which errors mean one, and their records in Redis."""

import errno
from pathlib import Path

import pytest
import redis
from support.disk.disks import RefusingDisk
from support.disk.spools import Spool

from inboxd.broker import inbox_outages
from inboxd.broker.inbox_outages import clear_inbox_outage, is_inbox_wide, read_inbox_outages, record_inbox_outage
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk


class DeniedDisk(Disk):
    """A disk on which no folder can be created."""

    def mkdir(self, *_: object) -> None:
        raise PermissionError(errno.EACCES, "denied")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Spool.make(tmp_path / "drop").root


@pytest.mark.parametrize("code", inbox_outages.INBOX_WIDE_ERRORS, ids=errno.errorcode.get)
def test_an_error_of_the_whole_file_system_is_inbox_wide(code: int, root: Path) -> None:
    assert is_inbox_wide(Disk(), root, OSError(code, "on purpose"))


def test_a_missing_folder_is_inbox_wide(root: Path) -> None:
    assert is_inbox_wide(Disk(), root, FolderUnavailable("gone"))


@pytest.mark.parametrize("error", [OSError(errno.ENAMETOOLONG, "too long"), ValueError("no"), OSError("without a number")])
def test_an_error_of_one_file_is_not_inbox_wide(error: Exception, root: Path) -> None:
    assert not is_inbox_wide(Disk(), root, error)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE])
def test_an_ambiguous_error_is_inbox_wide_only_if_a_folder_is_not_writable(code: int, root: Path) -> None:
    error = OSError(code, "denied")

    assert not is_inbox_wide(Disk(), root, error)
    assert is_inbox_wide(DeniedDisk(), root, error)
    assert is_inbox_wide(RefusingDisk("open_folder", b"done", errno.EACCES), root, error)


def test_the_write_check_leaves_nothing_behind(root: Path) -> None:
    is_inbox_wide(Disk(), root, PermissionError(errno.EACCES, "denied"))

    assert sorted(path.name for path in root.rglob("*")) == ["claimed", "done", "failed", "inbox"]


def test_an_outage_is_new_once_per_reason_and_is_read_until_it_is_cleared(valkey: redis.Redis) -> None:
    assert record_inbox_outage(valkey, "here", "drop", "full")
    assert not record_inbox_outage(valkey, "here", "drop", "full")
    assert record_inbox_outage(valkey, "here", "drop", "read-only")

    assert read_inbox_outages(valkey, "here", ["drop", "other"]) == {"drop": "read-only"}
    assert read_inbox_outages(valkey, "elsewhere", ["drop"]) == {}
    assert 0 < valkey.ttl("inboxd:outage:here:drop") <= inbox_outages.EXPIRES_SECONDS
    assert clear_inbox_outage(valkey, "here", "drop", "")
    assert not clear_inbox_outage(valkey, "here", "drop", "")
    assert read_inbox_outages(valkey, "here", ["drop"]) == {}


def test_an_outage_of_the_folders_is_recorded_and_cleared_by_each_sweep_for_itself(valkey: redis.Redis) -> None:
    assert record_inbox_outage(valkey, "here", "drop", "no done/", sweep="missed")
    assert not record_inbox_outage(valkey, "here", "drop", "no done/", sweep="missed")

    assert read_inbox_outages(valkey, "here", ["drop"]) == {}
    assert not clear_inbox_outage(valkey, "here", "drop", "", "stale")
    assert clear_inbox_outage(valkey, "here", "drop", "missed")


def test_a_missing_server_raises_broker_unavailable() -> None:
    missing = redis.Redis(unix_socket_path="/nowhere")

    with pytest.raises(BrokerUnavailable):
        record_inbox_outage(missing, "here", "drop", "full")
    with pytest.raises(BrokerUnavailable):
        read_inbox_outages(missing, "here", ["drop"])
