"""The watcher's sign of life: written, read back, and gone when it is not renewed."""

from pathlib import Path

import pytest
import redis
from support.valkey import settings_for
from support.waiting import eventually

from inboxd.broker import connection, heartbeat
from inboxd.broker.heartbeat import EVERY_SECONDS, EXPIRES_SECONDS, KEY, Heartbeat, Watched
from inboxd.errors import BrokerAway

BEAT = Heartbeat(
    at=1_700_000_000.25,
    inboxes={
        "drop": Watched("inotify", "ext4: a local file system", busy=True, trouble=None),
        "scans": Watched(
            "polling", "nfs4: others may write there", busy=False, trouble="/srv/\udcff: No such file or directory"
        ),
    },
)


def test_a_report_is_read_as_it_was_written(valkey: redis.Redis) -> None:
    heartbeat.write(valkey, "here", BEAT)

    assert heartbeat.read(valkey, "here") == BEAT


def test_a_report_of_no_inboxes_is_read_as_it_was_written(valkey: redis.Redis) -> None:
    beat = Heartbeat(0.0, {})

    heartbeat.write(valkey, "here", beat)

    assert heartbeat.read(valkey, "here") == beat


def test_the_newest_report_counts(valkey: redis.Redis) -> None:
    heartbeat.write(valkey, "here", BEAT)
    heartbeat.write(valkey, "here", Heartbeat(2.0, {}))

    assert heartbeat.read(valkey, "here") == Heartbeat(2.0, {})


def test_each_host_has_its_own(valkey: redis.Redis) -> None:
    heartbeat.write(valkey, "here", BEAT)

    assert heartbeat.read(valkey, "there") is None


def test_a_report_outlives_some_beats_and_no_more(valkey: redis.Redis) -> None:
    heartbeat.write(valkey, "here", BEAT)

    assert 2 * EVERY_SECONDS < valkey.ttl(KEY + "here") <= EXPIRES_SECONDS


def test_a_watcher_that_is_silent_for_too_long_has_no_report(valkey: redis.Redis) -> None:
    heartbeat.write(valkey, "here", BEAT)

    valkey.pexpire(KEY + "here", 10)

    eventually(lambda: heartbeat.read(valkey, "here") is None)


def test_a_server_that_is_away_is_weather(tmp_path: Path) -> None:
    with connection.client(settings_for(f"unix://{tmp_path}/none.sock", tmp_path)) as client:
        with pytest.raises(BrokerAway):
            heartbeat.write(client, "here", BEAT)
        with pytest.raises(BrokerAway):
            heartbeat.read(client, "here")
