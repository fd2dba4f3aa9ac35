"""Metrics for Prometheus, from Redis and the folders, also while one of them is unavailable."""

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
from inboxd.broker.inbox_outages import clear_inbox_outage, record_inbox_outage
from inboxd.config.settings import Settings
from inboxd.fs.syscalls import Disk
from inboxd.messaging.queues import QUARANTINE_KEY, UNACKED_KEY, WORK_QUEUE
from inboxd.monitoring.collector import COUNT_SECONDS, Collector

HEALTHY_REPORT = InboxReport("inotify", "", is_busy=False, outage=None)

Page = dict[tuple[str, str], float]
"""Sample values by name and comma-separated label values."""


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


@pytest.fixture
def settings(spool: Spool, valkey_url: str) -> Settings:
    return settings_for(valkey_url, spool.root)


def samples(collector: Collector) -> Page:
    families = text_string_to_metric_families(generate_latest(collector).decode())
    return {(sample.name, ",".join(sample.labels.values())): sample.value for family in families for sample in family.samples}


def page(settings: Settings, client: redis.Redis) -> Page:
    return samples(Collector(lambda: settings, client, Disk()))


def test_waiting_and_claimed_files_are_counted_with_the_age_of_the_oldest(
    settings: Settings, spool: Spool, valkey: redis.Redis
) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/x/b")
    spool.put(b"inbox/c.part")
    spool.put(b"claimed/%012x%016x/d" % (int((time.time() - 100) * 1000), 7))

    metrics = page(settings, valkey)

    assert metrics["inboxd_waiting_files", "drop"] == 2
    assert metrics["inboxd_in_flight_files", "drop"] == 1
    assert 0 <= metrics["inboxd_oldest_waiting_seconds", "drop"] < 60
    assert 100 <= metrics["inboxd_oldest_claimed_seconds", "drop"] < 160
    assert metrics["inboxd_inbox_outage", "drop"] == 0


def test_without_files_the_ages_are_zero(settings: Settings, valkey: redis.Redis) -> None:
    metrics = page(settings, valkey)

    assert metrics["inboxd_oldest_waiting_seconds", "drop"] == metrics["inboxd_oldest_claimed_seconds", "drop"] == 0


def test_files_are_counted_by_outcome_and_by_what_found_them(settings: Settings, valkey: redis.Redis) -> None:
    tally = Tally()
    tally.count_filed("drop", DONE, 0.3)
    tally.count_filed("drop", FAILED)
    tally.count_found("drop", "start", 2)
    tally.count_lost_events("drop")
    Counters(valkey, "here").write(tally)

    metrics = page(settings, valkey)

    outcomes = {outcome: metrics["inboxd_files_total", f"drop,{outcome}"] for outcome in ("done", "failed", "refused")}
    assert outcomes == {"done": 1, "failed": 1, "refused": 0}
    assert metrics["inboxd_found_total", "start,drop"] == 2
    assert metrics["inboxd_found_total", "sweep,drop"] == 0
    assert metrics["inboxd_events_lost_total", "drop"] == 1
    assert metrics["inboxd_latency_seconds_count", "drop"] == 1
    assert metrics["inboxd_latency_seconds_sum", "drop"] == pytest.approx(0.3)
    assert [metrics["inboxd_latency_seconds_bucket", f"drop,{bound}"] for bound in ("0.25", "0.5")] == [0, 1]


def test_each_queue_has_its_length(settings: Settings, valkey: redis.Redis) -> None:
    valkey.lpush(WORK_QUEUE, "a", "b")
    valkey.lpush(QUARANTINE_KEY, "c")
    valkey.hset(UNACKED_KEY, "tag", "d")

    metrics = page(settings, valkey)

    assert metrics["inboxd_queue_messages", "inboxd.work"] == 2
    assert metrics["inboxd_queue_messages", "inboxd.host.here"] == 0
    assert metrics["inboxd_queue_messages", "inboxd.quarantine"] == 1
    assert metrics["inboxd_unacked_messages", ""] == 1


def test_watcher_and_sweeps_are_up_after_a_heartbeat_and_a_sweep(settings: Settings, valkey: redis.Redis) -> None:
    before = page(settings, valkey)
    write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": HEALTHY_REPORT}))
    record_sweep(valkey, settings)

    after = page(settings, valkey)

    names = ("inboxd_watcher_up", "inboxd_sweeps_up", "inboxd_broker_up")
    assert [before[name, ""] for name in names] == [0, 0, 1]
    assert [after[name, ""] for name in names] == [1, 1, 1]


def test_an_outage_is_reported_by_a_worker_or_by_the_watcher(settings: Settings, valkey: redis.Redis) -> None:
    record_inbox_outage(valkey, "here", "drop", "No space left on device")
    from_worker = page(settings, valkey)
    clear_inbox_outage(valkey, "here", "drop", "")
    write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": replace(HEALTHY_REPORT, outage="Stale file handle")}))

    from_watcher = page(settings, valkey)

    assert from_worker["inboxd_inbox_outage", "drop"] == from_watcher["inboxd_inbox_outage", "drop"] == 1


def test_unavailable_folders_are_an_outage_and_not_empty(settings: Settings, spool: Spool, valkey: redis.Redis) -> None:
    os.rename(spool.root, spool.root.parent / "moved")  # noqa: PTH104

    metrics = page(settings, valkey)

    assert metrics["inboxd_inbox_outage", "drop"] == 1
    assert ("inboxd_waiting_files", "drop") not in metrics


def test_without_redis_the_folders_are_counted_and_other_samples_are_missing(settings: Settings, tmp_path: Path) -> None:
    unreachable = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": f"unix://{tmp_path}/no.sock"})})

    with make_client(unreachable) as client:
        metrics = page(unreachable, client)

    assert metrics["inboxd_broker_up", ""] == 0
    assert metrics["inboxd_waiting_files", "drop"] == 0
    assert not [name for name, _ in metrics if re.match(r"inboxd_(files|found|watcher|queue|latency)", name)]


def test_an_inbox_added_by_a_reload_is_counted(settings: Settings, tmp_path: Path, valkey: redis.Redis) -> None:
    current = [settings]
    collector = Collector(lambda: current[0], valkey, Disk())
    samples(collector)
    new = settings.inbox["drop"].model_copy(update={"root": Spool.make(tmp_path / "new").root, "name": "new"})
    current[0] = settings.model_copy(update={"inbox": {"new": new}})

    metrics = samples(collector)

    assert ("inboxd_waiting_files", "new") in metrics
    assert ("inboxd_waiting_files", "drop") not in metrics


@pytest.mark.parametrize(("elapsed", "waiting"), [(COUNT_SECONDS - 1.0, 0), (COUNT_SECONDS + 1.0, 1)])
def test_the_folders_are_counted_at_most_once_per_interval(
    elapsed: float, waiting: int, settings: Settings, spool: Spool, valkey: redis.Redis
) -> None:
    now = [1000.0]
    collector = Collector(lambda: settings, valkey, Disk(), lambda: now[0])
    samples(collector)
    spool.put(b"inbox/a")
    now[0] += elapsed

    assert samples(collector)["inboxd_waiting_files", "drop"] == waiting


def test_after_a_slow_count_the_next_one_is_delayed(settings: Settings, spool: Spool, valkey: redis.Redis) -> None:
    ticks = iter([0.0, 10.0, 209.0, 211.0, 212.0])
    collector = Collector(lambda: settings, valkey, Disk(), lambda: next(ticks))
    samples(collector)
    spool.put(b"inbox/a")

    assert samples(collector)["inboxd_waiting_files", "drop"] == 0
    assert samples(collector)["inboxd_waiting_files", "drop"] == 1
