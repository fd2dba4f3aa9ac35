"""The thread that renews the leases of what this process works on."""

import threading
from collections import Counter

import pytest
import redis
from structlog.testing import capture_logs
from support.waiting import eventually

from inboxd.broker.leases import Leases, LeaseState
from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.tasks.work.lease_renewer import LeaseRenewer

P, OTHER, THIRD = "1" * 28, "2" * 28, "3" * 28
ME = "here/1/1"
QUICK = 0.03


class Counting:
    """Leases whose renewals are counted; the first ``away`` of them meet no server, and ``lost`` ones are refused."""

    def __init__(self, *, away: int = 0, lost: bool = False) -> None:
        self.renewals: Counter[str] = Counter()
        self.seconds: set[float] = set()
        self.threads: set[int] = set()
        self._away = away
        self._lost = lost

    def renew(self, parcel: str, token: str, seconds: float) -> bool:
        assert token == ME
        self.renewals[parcel] += 1
        self.seconds.add(seconds)
        self.threads.add(threading.get_ident())
        if self.renewals[parcel] <= self._away:
            raise BrokerUnavailable("gone")
        return not self._lost

    def wait(self, parcel: str, more: int) -> None:
        """Wait for so many more renewals."""
        until = self.renewals[parcel] + more
        eventually(lambda: self.renewals[parcel] >= until)


def keeper(leases: Counting | Leases, seconds: float = QUICK) -> LeaseRenewer:
    return LeaseRenewer(leases, seconds)  # type: ignore[arg-type]


def test_a_lease_is_renewed_while_the_block_lasts() -> None:
    leases = Counting()

    with keeper(leases).renewing(P, ME):
        leases.wait(P, 5)

    assert leases.seconds == {QUICK}


def test_a_real_lease_outlasts_its_seconds(valkey: redis.Redis) -> None:
    leases = Leases(valkey, 60)
    leases.start(P, ME, 0.001)

    with keeper(leases, seconds=0.3).renewing(P, ME):
        eventually(lambda: leases.read([P])[P].seconds_left > 0.1)  # type: ignore[union-attr]

        assert leases.read([P])[P].state is LeaseState.RUNNING  # type: ignore[union-attr]


def test_the_renewing_stops_with_the_block() -> None:
    leases = Counting()
    kept = keeper(leases)
    with kept.renewing(P, ME):
        leases.wait(P, 1)

    with kept.renewing(OTHER, ME):
        leases.wait(OTHER, 1)  # a round that may have begun inside the first block is over
        before = leases.renewals[P]
        leases.wait(OTHER, 5)

    assert leases.renewals[P] == before


def test_the_renewing_stops_with_a_block_that_raises() -> None:
    leases = Counting()
    kept = keeper(leases)
    with pytest.raises(SystemExit), kept.renewing(P, ME):
        raise SystemExit

    with kept.renewing(OTHER, ME):
        leases.wait(OTHER, 1)
        before = leases.renewals[P]
        leases.wait(OTHER, 5)

    assert leases.renewals[P] == before


def test_one_thread_keeps_all_leases() -> None:
    leases = Counting()
    kept = keeper(leases)

    with kept.renewing(P, ME), kept.renewing(OTHER, ME):
        leases.wait(P, 2)
        leases.wait(OTHER, 2)
    with kept.renewing(THIRD, ME):
        leases.wait(THIRD, 2)

    assert len(leases.threads) == 1
    assert threading.get_ident() not in leases.threads


def test_no_thread_is_there_before_the_first_parcel() -> None:
    before = threading.active_count()

    keeper(Counting())

    assert threading.active_count() == before


def test_a_broker_that_is_away_is_survived_and_told_once() -> None:
    leases = Counting(away=2)

    with capture_logs() as lines, keeper(leases).renewing(P, ME):
        leases.wait(P, 4)

    assert [line["event"] for line in lines] == [events.BROKER_UNAVAILABLE]
    assert lines[0]["error"] == "gone"


def test_a_lease_that_is_lost_is_told_and_the_work_goes_on() -> None:
    leases = Counting(lost=True)
    worked = False

    with capture_logs() as lines, keeper(leases).renewing(P, ME):
        leases.wait(P, 2)
        worked = True

    assert worked
    assert {(line["event"], line["parcel"]) for line in lines} == {(events.LEASE_LOST, P)}


def test_a_lease_that_another_worker_has_taken_is_left_to_it(valkey: redis.Redis) -> None:
    leases = Leases(valkey, 60)
    leases.start(P, "here/2/2", 60)

    with capture_logs() as lines, keeper(leases).renewing(P, ME):
        eventually(lambda: len(lines) > 0)

    assert leases.read([P])[P].owner == "here/2/2"  # type: ignore[union-attr]
