"""Counting: what was tallied is read back, adds up, and costs one round trip."""

import time
from pathlib import Path

import pytest
import redis
from support.disk.spools import Spool
from support.valkey import settings_for

from inboxd.broker.connection import make_client
from inboxd.broker.counters import DONE, FAILED, LATENCY_BUCKETS, REFUSED, Counters, InboxCounts, Tally
from inboxd.errors import BrokerUnavailable

DAY = 86_400.0


def tally() -> Tally:
    """Return a tally with something of each kind."""
    made = Tally()
    made.count_filed("drop", DONE, 0.2)
    made.count_filed("drop", DONE, 7.5)
    made.count_filed("drop", FAILED)
    made.count_filed("drop", REFUSED, files=3)
    made.count_found("drop", "event", 40)
    made.count_found("other", "sweep", 2)
    made.count_lost_events("drop")
    return made


def test_what_was_never_counted_is_nought(valkey: redis.Redis) -> None:
    assert Counters(valkey, "here").read(["drop"]) == {"drop": InboxCounts()}


def test_what_was_written_is_read_and_adds_up(valkey: redis.Redis) -> None:
    counters = Counters(valkey, "here")

    for _ in range(2):
        counters.write(tally())

    counts = counters.read(["drop", "other"])
    drop = counts["drop"]
    assert drop.outcomes == drop.today == {DONE: 4, FAILED: 2, REFUSED: 6}
    assert (drop.found_by, counts["other"].found_by) == ({"event": 80}, {"sweep": 4})
    assert drop.events_lost == 2
    assert drop.latency_sum == pytest.approx(15.4)
    assert {LATENCY_BUCKETS[at]: number for at, number in enumerate(drop.latency[:-1]) if number} == {0.25: 2, 10.0: 2}


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (0.1, 0), (0.1001, 1), (1800.0, 10), (1801.0, 11)])
def test_a_latency_is_counted_in_the_first_bucket_that_holds_it(seconds: float, bucket: int, valkey: redis.Redis) -> None:
    made = Tally()
    made.count_filed("drop", DONE, seconds)

    Counters(valkey, "here").write(made)

    latency = Counters(valkey, "here").read(["drop"])["drop"].latency
    assert latency == tuple(int(at == bucket) for at in range(len(LATENCY_BUCKETS) + 1))


def test_today_ends_with_the_day_and_the_rest_does_not(valkey: redis.Redis) -> None:
    now = time.time()
    Counters(valkey, "here", lambda: now).write(tally())

    tomorrow = Counters(valkey, "here", lambda: now + DAY).read(["drop"])["drop"]

    assert tomorrow.today == {}
    assert tomorrow.outcomes[DONE] == 2


def test_every_key_expires(valkey: redis.Redis) -> None:
    Counters(valkey, "here").write(tally())

    assert valkey.keys()
    assert all(valkey.ttl(key) > DAY for key in valkey.scan_iter())


def test_each_host_counts_for_itself(valkey: redis.Redis) -> None:
    Counters(valkey, "there").write(tally())

    assert Counters(valkey, "here").read(["drop"]) == {"drop": InboxCounts()}


def test_a_tally_is_empty_once_it_is_written_and_costs_one_round_trip(valkey: redis.Redis) -> None:
    made = tally()
    before = valkey.info("stats")["total_reads_processed"]

    Counters(valkey, "here").write(made)
    after = valkey.info("stats")["total_reads_processed"]
    Counters(valkey, "here").write(made)

    assert not made.counts
    assert after - before == 2  # of which one is the question for this number
    assert Counters(valkey, "here").read(["drop"])["drop"].outcomes[DONE] == 2


def test_a_tally_that_could_not_be_written_is_kept(tmp_path: Path) -> None:
    made = tally()
    settings = settings_for(f"unix://{tmp_path}/nowhere.sock", Spool.make(tmp_path / "drop").root)

    with make_client(settings) as client, pytest.raises(BrokerUnavailable):
        Counters(client, "here").write(made)

    assert made.counts == tally().counts
