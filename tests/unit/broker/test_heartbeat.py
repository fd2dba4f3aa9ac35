"""The watcher's heartbeat: written, read back, and expired if it is not renewed."""

from pathlib import Path

import pytest
import redis
from support.valkey import settings_for
from support.waiting import eventually

from inboxd.broker.connection import make_client
from inboxd.broker.heartbeat import EVERY_SECONDS, EXPIRES_SECONDS, KEY, Heartbeat, InboxReport, read_heartbeat, write_heartbeat
from inboxd.errors import BrokerUnavailable

HEARTBEAT = Heartbeat(
    at=1_700_000_000.25,
    inboxes={
        "drop": InboxReport("inotify", "ext4: a local file system", is_busy=True, outage=None),
        "scans": InboxReport(
            "polling", "nfs4: others may write there", is_busy=False, outage="/srv/\udcff: No such file or directory"
        ),
    },
)


def test_a_written_report_is_read_back(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", HEARTBEAT)

    assert read_heartbeat(valkey, "here") == HEARTBEAT


def test_a_written_report_without_inboxes_is_read_back(valkey: redis.Redis) -> None:
    heartbeat = Heartbeat(0.0, {})

    write_heartbeat(valkey, "here", heartbeat)

    assert read_heartbeat(valkey, "here") == heartbeat


def test_a_report_replaces_the_previous_one(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", HEARTBEAT)
    write_heartbeat(valkey, "here", Heartbeat(2.0, {}))

    assert read_heartbeat(valkey, "here") == Heartbeat(2.0, {})


def test_each_host_has_its_own_report(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", HEARTBEAT)

    assert read_heartbeat(valkey, "there") is None


def test_a_report_expires_after_a_few_missed_heartbeats(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", HEARTBEAT)

    assert 2 * EVERY_SECONDS < valkey.ttl(KEY + "here") <= EXPIRES_SECONDS


def test_an_expired_report_is_none(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", HEARTBEAT)

    valkey.pexpire(KEY + "here", 10)

    eventually(lambda: read_heartbeat(valkey, "here") is None)


def test_a_missing_server_raises_broker_unavailable(tmp_path: Path) -> None:
    with make_client(settings_for(f"unix://{tmp_path}/none.sock", tmp_path)) as client:
        with pytest.raises(BrokerUnavailable):
            write_heartbeat(client, "here", HEARTBEAT)
        with pytest.raises(BrokerUnavailable):
            read_heartbeat(client, "here")
