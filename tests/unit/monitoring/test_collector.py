"""The figures for Prometheus: from Redis and the folders, and what is left of them when one is away."""

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.disk.spools import Spool
from support.valkey import settings_for

from inboxd.broker.connection import make_client
from inboxd.broker.counters import DONE, FAILED, Counters, Tally
from inboxd.broker.heartbeat import Heartbeat, InboxReport, record_sweep, write_heartbeat
from inboxd.broker.outages import clear_outage, record_outage
from inboxd.config.settings import Settings
from inboxd.fs.syscalls import Disk
from inboxd.messaging.queues import QUARANTINE_KEY, UNACKED_KEY, WORK_QUEUE
from inboxd.monitoring.collector import COUNT_SECONDS, Collector

WELL = InboxReport("inotify", "", is_busy=False, outage=None)

Page = dict[tuple[str, str], float]
"""Sample name and label values, joined, -> value."""


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


@pytest.fixture
def settings(spool: Spool, valkey_url: str) -> Settings:
    return settings_for(valkey_url, spool.root)


def samples(health: Collector) -> Page:
    families = text_string_to_metric_families(generate_latest(health).decode())
    return {(s.name, ",".join(s.labels.values())): s.value for family in families for s in family.samples}


def page(settings: Settings, client: redis.Redis) -> Page:
    return samples(Collector(lambda: settings, client, Disk()))


def test_files_on_their_way_are_counted_with_the_ages_of_the_oldest(
    settings: Settings, spool: Spool, valkey: redis.Redis
) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/x/b")
    spool.put(b"inbox/c.part")
    spool.put(b"claimed/%012x%016x/d" % (int((time.time() - 100) * 1000), 7))

    told = page(settings, valkey)

    assert told["inboxd_waiting_files", "drop"] == 2
    assert told["inboxd_in_flight_files", "drop"] == 1
    assert 0 <= told["inboxd_oldest_waiting_seconds", "drop"] < 60
    assert 100 <= told["inboxd_oldest_claimed_seconds", "drop"] < 160
    assert told["inboxd_inbox_outage", "drop"] == 0


def test_where_nothing_is_on_its_way_the_ages_are_nought(settings: Settings, valkey: redis.Redis) -> None:
    told = page(settings, valkey)

    assert told["inboxd_oldest_waiting_seconds", "drop"] == told["inboxd_oldest_claimed_seconds", "drop"] == 0


def test_counts_are_told_by_outcome_and_by_what_has_found_the_files(settings: Settings, valkey: redis.Redis) -> None:
    tally = Tally()
    tally.count_filed("drop", DONE, 0.3)
    tally.count_filed("drop", FAILED)
    tally.count_found("drop", "start", 2)
    tally.count_lost_events("drop")
    Counters(valkey, "here").write(tally)

    told = page(settings, valkey)

    outcomes = {outcome: told["inboxd_files_total", f"drop,{outcome}"] for outcome in ("done", "failed", "refused")}
    assert outcomes == {"done": 1, "failed": 1, "refused": 0}
    assert told["inboxd_found_total", "start,drop"] == 2
    assert told["inboxd_found_total", "sweep,drop"] == 0
    assert told["inboxd_events_lost_total", "drop"] == 1
    assert told["inboxd_latency_seconds_count", "drop"] == 1
    assert told["inboxd_latency_seconds_sum", "drop"] == pytest.approx(0.3)
    assert (told["inboxd_latency_seconds_bucket", "drop,0.25"], told["inboxd_latency_seconds_bucket", "drop,0.5"]) == (0, 1)


def test_queues_are_told_with_their_lengths(settings: Settings, valkey: redis.Redis) -> None:
    valkey.lpush(WORK_QUEUE, "a", "b")
    valkey.lpush(QUARANTINE_KEY, "c")
    valkey.hset(UNACKED_KEY, "tag", "d")

    told = page(settings, valkey)

    assert told["inboxd_queue_messages", "inboxd.work"] == 2
    assert told["inboxd_queue_messages", "inboxd.host.here"] == 0
    assert told["inboxd_queue_messages", "inboxd.quarantine"] == 1
    assert told["inboxd_unacked_messages", ""] == 1


def test_watcher_and_sweeps_are_up_while_they_give_signs_of_life(settings: Settings, valkey: redis.Redis) -> None:
    before = page(settings, valkey)
    write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": WELL}))
    record_sweep(valkey, settings)

    after = page(settings, valkey)

    names = ("inboxd_watcher_up", "inboxd_sweeps_up", "inboxd_broker_up")
    assert [before[name, ""] for name in names] == [0, 0, 1]
    assert [after[name, ""] for name in names] == [1, 1, 1]


def test_trouble_is_what_a_worker_or_the_watcher_says(settings: Settings, valkey: redis.Redis) -> None:
    record_outage(valkey, "here", "drop", "No space left on device")
    by_worker = page(settings, valkey)
    clear_outage(valkey, "here", "drop", "")
    write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": replace(WELL, outage="Stale file handle")}))

    by_watcher = page(settings, valkey)

    assert by_worker["inboxd_inbox_outage", "drop"] == by_watcher["inboxd_inbox_outage", "drop"] == 1


def test_folders_that_are_away_are_trouble_and_not_empty(settings: Settings, spool: Spool, valkey: redis.Redis) -> None:
    os.rename(spool.root, spool.root.parent / "away")  # noqa: PTH104

    told = page(settings, valkey)

    assert told["inboxd_inbox_outage", "drop"] == 1
    assert ("inboxd_waiting_files", "drop") not in told


def test_without_redis_the_folders_are_told_and_no_count_is_made_up(settings: Settings, tmp_path: Path) -> None:
    nowhere = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": f"unix://{tmp_path}/no.sock"})})

    with make_client(nowhere) as client:
        told = page(nowhere, client)

    assert told["inboxd_broker_up", ""] == 0
    assert told["inboxd_waiting_files", "drop"] == 0
    assert not [name for name, _ in told if re.match(r"inboxd_(files|found|watcher|queue|latency)", name)]


def test_an_inbox_that_a_reload_has_brought_is_told(settings: Settings, tmp_path: Path, valkey: redis.Redis) -> None:
    now = [settings]
    health = Collector(lambda: now[0], valkey, Disk())
    samples(health)
    new = settings.inbox["drop"].model_copy(update={"root": Spool.make(tmp_path / "new").root, "name": "new"})
    now[0] = settings.model_copy(update={"inbox": {"new": new}})

    told = samples(health)

    assert ("inboxd_waiting_files", "new") in told
    assert ("inboxd_waiting_files", "drop") not in told


@pytest.mark.parametrize(("later", "waiting"), [(COUNT_SECONDS - 1.0, 0), (COUNT_SECONDS + 1.0, 1)])
def test_the_folders_are_walked_through_no_oftener_than_so(
    later: float, waiting: int, settings: Settings, spool: Spool, valkey: redis.Redis
) -> None:
    now = [1000.0]
    health = Collector(lambda: settings, valkey, Disk(), lambda: now[0])
    samples(health)
    spool.put(b"inbox/a")
    now[0] += later

    assert samples(health)["inboxd_waiting_files", "drop"] == waiting


def test_a_walk_that_took_long_is_not_repeated_soon(settings: Settings, spool: Spool, valkey: redis.Redis) -> None:
    ticks = iter([0.0, 10.0, 209.0, 211.0, 212.0])
    health = Collector(lambda: settings, valkey, Disk(), lambda: next(ticks))
    samples(health)
    spool.put(b"inbox/a")

    assert samples(health)["inboxd_waiting_files", "drop"] == 0
    assert samples(health)["inboxd_waiting_files", "drop"] == 1
