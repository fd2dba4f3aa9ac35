"""Counters: written counts are read back and added up, in one round trip."""

import time
from pathlib import Path

import pytest
import redis
from support.disk.spools import Spool
from support.valkey import settings_for

from inboxd.broker.connection import make_client
from inboxd.broker.counters import DONE, FAILED, HOUR_SECONDS, LATENCY_BUCKETS, REFUSED, Counters, InboxCounts, Tally
from inboxd.errors import BrokerUnavailable

DAY = 86_400.0


def example_tally() -> Tally:
    """Return a tally with counts of each kind."""
    tally = Tally()
    tally.count_filed("drop", DONE, 0.2)
    tally.count_filed("drop", DONE, 7.5)
    tally.count_filed("drop", FAILED)
    tally.count_filed("drop", REFUSED, files=3)
    tally.count_found("drop", "event", 40)
    tally.count_found("other", "sweep", 2)
    tally.count_lost_events("drop")
    return tally


def test_an_inbox_without_counts_has_zeros(valkey: redis.Redis) -> None:
    assert Counters(valkey, "here").read(["drop"]) == {"drop": InboxCounts()}


def test_written_counts_are_read_back_and_added_up(valkey: redis.Redis) -> None:
    counters = Counters(valkey, "here")

    for _ in range(2):
        counters.write(example_tally())

    counts = counters.read(["drop", "other"])
    drop = counts["drop"]
    assert drop.outcomes == drop.today == {DONE: 4, FAILED: 2, REFUSED: 6}
    assert (drop.found_by, counts["other"].found_by) == ({"event": 80}, {"sweep": 4})
    assert drop.events_lost == 2
    assert drop.latency_sum == pytest.approx(15.4)
    assert {bound: count for bound, count in zip(LATENCY_BUCKETS, drop.latency, strict=False) if count} == {0.25: 2, 10.0: 2}


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (0.1, 0), (0.1001, 1), (1800.0, 10), (1801.0, 11)])
def test_a_latency_is_counted_in_the_first_bucket_that_includes_it(seconds: float, bucket: int, valkey: redis.Redis) -> None:
    tally = Tally()
    tally.count_filed("drop", DONE, seconds)

    Counters(valkey, "here").write(tally)

    latency = Counters(valkey, "here").read(["drop"])["drop"].latency
    assert latency == tuple(int(index == bucket) for index in range(len(LATENCY_BUCKETS) + 1))


def test_the_counts_of_today_are_empty_on_the_next_day_and_the_totals_are_not(valkey: redis.Redis) -> None:
    now = time.time()
    Counters(valkey, "here", lambda: now).write(example_tally())

    tomorrow = Counters(valkey, "here", lambda: now + DAY).read(["drop"])["drop"]

    assert tomorrow.today == {}
    assert tomorrow.outcomes[DONE] == 2


def test_every_key_expires(valkey: redis.Redis) -> None:
    Counters(valkey, "here").write(example_tally())

    assert valkey.keys()
    assert all(valkey.ttl(key) > DAY for key in valkey.scan_iter())


def test_each_host_has_its_own_counts(valkey: redis.Redis) -> None:
    Counters(valkey, "there").write(example_tally())

    assert Counters(valkey, "here").read(["drop"]) == {"drop": InboxCounts()}


def test_writing_a_tally_clears_it_and_takes_one_round_trip(valkey: redis.Redis) -> None:
    tally = example_tally()
    before = valkey.info("stats")["total_reads_processed"]

    Counters(valkey, "here").write(tally)
    after = valkey.info("stats")["total_reads_processed"]
    Counters(valkey, "here").write(tally)

    assert not tally.counts
    assert after - before == 2  # one of them is the INFO command
    assert Counters(valkey, "here").read(["drop"])["drop"].outcomes[DONE] == 2


def test_a_failed_write_keeps_the_tally(tmp_path: Path) -> None:
    tally = example_tally()
    settings = settings_for(f"unix://{tmp_path}/nowhere.sock", Spool.make(tmp_path / "drop").root)

    with make_client(settings) as client, pytest.raises(BrokerUnavailable):
        Counters(client, "here").write(tally)

    assert tally.counts == example_tally().counts


def test_outcomes_are_read_back_by_hour_of_today_and_yesterday(valkey: redis.Redis) -> None:
    now = time.mktime((2026, 11, 22, 12, 30, 0, 0, 0, -1))
    hour = int(now // HOUR_SECONDS)
    for at in (now, now - 3 * HOUR_SECONDS, now - DAY, now - 2 * DAY):
        Counters(valkey, "here", lambda at=at: at).write(example_tally())

    hours = Counters(valkey, "here", lambda: now).read_hours(["drop", "none"])

    each = {DONE: 2, FAILED: 1, REFUSED: 3}
    assert hours == {"drop": {hour: each, hour - 3: each, hour - 24: each}, "none": {}}


def test_an_hour_that_is_no_number_is_left_out(valkey: redis.Redis) -> None:
    counters = Counters(valkey, "here")
    counters.write(example_tally())
    key = counters._day_key("drop")  # noqa: SLF001
    valkey.hset(key, mapping={"hour:5:done": "x", "hour:x:done": "1", "hour:6:done": "7"})

    hours = counters.read_hours(["drop"])["drop"]

    assert (hours[5], hours[6]) == ({}, {DONE: 7})
