"""The thread that renews the leases of the parcels that this process works on."""

import threading
from collections import Counter

import pytest
import redis
from structlog.testing import capture_logs
from support.waiting import eventually

from inboxd.broker.leases import Leases, LeaseState
from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.tasks.processing.lease_renewer import LeaseRenewer

P, OTHER, THIRD = "1" * 28, "2" * 28, "3" * 28
ME = "here/1/1"
QUICK = 0.03


class CountingLeases:
    """Leases that count renewals; of each parcel the first ``failures`` fail, and the others are refused if ``is_lost``."""

    def __init__(self, *, failures: int = 0, is_lost: bool = False) -> None:
        self.renewals: Counter[str] = Counter()
        self.seconds: set[float] = set()
        self.threads: set[int] = set()
        self._failures = failures
        self._is_lost = is_lost

    def renew(self, parcel: str, token: str, seconds: float) -> bool:
        assert token == ME
        self.renewals[parcel] += 1
        self.seconds.add(seconds)
        self.threads.add(threading.get_ident())
        if self.renewals[parcel] <= self._failures:
            raise BrokerUnavailable("unavailable")
        return not self._is_lost

    def wait(self, parcel: str, more: int) -> None:
        """Wait for this many more renewals."""
        until = self.renewals[parcel] + more
        eventually(lambda: self.renewals[parcel] >= until)


def make_renewer(leases: CountingLeases | Leases, seconds: float = QUICK) -> LeaseRenewer:
    return LeaseRenewer(leases, seconds)  # type: ignore[arg-type]


def test_a_lease_is_renewed_while_the_block_lasts() -> None:
    leases = CountingLeases()

    with make_renewer(leases).renewing(P, ME):
        leases.wait(P, 5)

    assert leases.seconds == {QUICK}


def test_a_renewed_lease_outlasts_its_duration(valkey: redis.Redis) -> None:
    leases = Leases(valkey, 60)
    leases.start(P, ME, 0.001)

    with make_renewer(leases, seconds=0.3).renewing(P, ME):
        eventually(lambda: leases.read([P])[P].seconds_left > 0.1)  # type: ignore[union-attr]

        assert leases.read([P])[P].state is LeaseState.RUNNING  # type: ignore[union-attr]


def test_renewals_stop_at_the_end_of_the_block() -> None:
    leases = CountingLeases()
    renewer = make_renewer(leases)
    with renewer.renewing(P, ME):
        leases.wait(P, 1)

    with renewer.renewing(OTHER, ME):
        leases.wait(OTHER, 1)  # a round of renewals that may have begun in the first block is over
        before = leases.renewals[P]
        leases.wait(OTHER, 5)

    assert leases.renewals[P] == before


def test_renewals_stop_if_the_block_raises() -> None:
    leases = CountingLeases()
    renewer = make_renewer(leases)
    with pytest.raises(SystemExit), renewer.renewing(P, ME):
        raise SystemExit

    with renewer.renewing(OTHER, ME):
        leases.wait(OTHER, 1)
        before = leases.renewals[P]
        leases.wait(OTHER, 5)

    assert leases.renewals[P] == before


def test_one_thread_renews_all_leases() -> None:
    leases = CountingLeases()
    renewer = make_renewer(leases)

    with renewer.renewing(P, ME), renewer.renewing(OTHER, ME):
        leases.wait(P, 2)
        leases.wait(OTHER, 2)
    with renewer.renewing(THIRD, ME):
        leases.wait(THIRD, 2)

    assert len(leases.threads) == 1
    assert threading.get_ident() not in leases.threads


def test_no_thread_starts_before_the_first_parcel() -> None:
    before = threading.active_count()

    make_renewer(CountingLeases())

    assert threading.active_count() == before


def test_an_outage_of_redis_is_survived_and_logged_once() -> None:
    leases = CountingLeases(failures=2)

    with capture_logs() as lines, make_renewer(leases).renewing(P, ME):
        leases.wait(P, 4)

    assert [line["event"] for line in lines] == [events.BROKER_UNAVAILABLE]
    assert lines[0]["error"] == "unavailable"


def test_a_lost_lease_is_logged_and_the_work_goes_on() -> None:
    leases = CountingLeases(is_lost=True)
    is_done = False

    with capture_logs() as lines, make_renewer(leases).renewing(P, ME):
        leases.wait(P, 2)
        is_done = True

    assert is_done
    assert {(line["event"], line["parcel"]) for line in lines} == {(events.LEASE_LOST, P)}


def test_another_workers_lease_is_not_renewed(valkey: redis.Redis) -> None:
    leases = Leases(valkey, 60)
    leases.start(P, "here/2/2", 60)

    with capture_logs() as lines, make_renewer(leases).renewing(P, ME):
        eventually(lambda: len(lines) > 0)

    assert leases.read([P])[P].owner == "here/2/2"  # type: ignore[union-attr]
