"""The watcher's sign of life: written, read back, and gone when it is not renewed."""

from pathlib import Path

import pytest
import redis
from support.valkey import settings_for
from support.waiting import eventually

from inboxd.broker.connection import make_client
from inboxd.broker.heartbeat import EVERY_SECONDS, EXPIRES_SECONDS, KEY, Heartbeat, InboxReport, read_heartbeat, write_heartbeat
from inboxd.errors import BrokerUnavailable

BEAT = Heartbeat(
    at=1_700_000_000.25,
    inboxes={
        "drop": InboxReport("inotify", "ext4: a local file system", is_busy=True, outage=None),
        "scans": InboxReport(
            "polling", "nfs4: others may write there", is_busy=False, outage="/srv/\udcff: No such file or directory"
        ),
    },
)


def test_a_report_is_read_as_it_was_written(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", BEAT)

    assert read_heartbeat(valkey, "here") == BEAT


def test_a_report_of_no_inboxes_is_read_as_it_was_written(valkey: redis.Redis) -> None:
    beat = Heartbeat(0.0, {})

    write_heartbeat(valkey, "here", beat)

    assert read_heartbeat(valkey, "here") == beat


def test_the_newest_report_counts(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", BEAT)
    write_heartbeat(valkey, "here", Heartbeat(2.0, {}))

    assert read_heartbeat(valkey, "here") == Heartbeat(2.0, {})


def test_each_host_has_its_own(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", BEAT)

    assert read_heartbeat(valkey, "there") is None


def test_a_report_outlives_some_beats_and_no_more(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", BEAT)

    assert 2 * EVERY_SECONDS < valkey.ttl(KEY + "here") <= EXPIRES_SECONDS


def test_a_watcher_that_is_silent_for_too_long_has_no_report(valkey: redis.Redis) -> None:
    write_heartbeat(valkey, "here", BEAT)

    valkey.pexpire(KEY + "here", 10)

    eventually(lambda: read_heartbeat(valkey, "here") is None)


def test_a_server_that_is_away_is_weather(tmp_path: Path) -> None:
    with make_client(settings_for(f"unix://{tmp_path}/none.sock", tmp_path)) as client:
        with pytest.raises(BrokerUnavailable):
            write_heartbeat(client, "here", BEAT)
        with pytest.raises(BrokerUnavailable):
            read_heartbeat(client, "here")
