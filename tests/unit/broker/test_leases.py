"""Leases on a real Valkey; most tests also run on FakeLeases, which must behave in the same way."""

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from support.parts.fakes import FakeLeases
from support.valkey import settings_for
from support.waiting import eventually

from inboxd.broker.connection import make_client
from inboxd.broker.leases import DATASET_KEY, KEY, Lease, Leases, LeaseState, StartAnswer, StartVerdict
from inboxd.errors import BrokerUnavailable
from inboxd.messaging.celery_app import make_app
from inboxd.spool.layout import new_parcel_id

P, OTHER = new_parcel_id(1.0), new_parcel_id(2.0)
ME, RIVAL = "here/1/1", "here/2/2"
LONG, SHORT = 60.0, 0.001
KEEP_SECONDS = 100.0
IMPLEMENTATIONS = ["redis", "fake"]

AnyLeases = Leases | FakeLeases


@pytest.fixture(params=IMPLEMENTATIONS)
def leases(request: pytest.FixtureRequest) -> AnyLeases:
    return FakeLeases() if request.param == "fake" else Leases(request.getfixturevalue("valkey"), KEEP_SECONDS)


@pytest.fixture
def redis_leases(valkey: redis.Redis) -> Leases:
    return Leases(valkey, KEEP_SECONDS)


@pytest.fixture
def flush(leases: AnyLeases, request: pytest.FixtureRequest) -> Callable[[], object]:
    return leases.flush if isinstance(leases, FakeLeases) else request.getfixturevalue("valkey").flushall


def read_lease(leases: AnyLeases, parcel: str = P) -> Lease:
    lease = leases.read([parcel])[parcel]
    assert lease is not None
    return lease


def expire_lease(leases: AnyLeases, parcel: str = P) -> None:
    """Wait until a short lease has expired."""
    if isinstance(leases, FakeLeases):
        leases.now += 1
    eventually(lambda: read_lease(leases, parcel).seconds_left < 0)


def test_a_queued_parcel_has_no_owner_and_no_attempt(leases: AnyLeases) -> None:
    leases.queue(P, "drop", LONG)

    lease = read_lease(leases)
    assert (lease.state, lease.owner, lease.attempt, lease.crashes) == (LeaseState.QUEUED, "", 0, 0)
    assert LONG - 5 < lease.seconds_left <= LONG


def test_a_start_acquires_the_lease_and_counts_an_attempt(leases: AnyLeases) -> None:
    leases.queue(P, "drop", LONG)

    assert leases.start(P, ME, LONG) == StartAnswer(StartVerdict.STARTED, 1)
    assert (read_lease(leases).state, read_lease(leases).owner, read_lease(leases).attempt) == (LeaseState.RUNNING, ME, 1)


def test_a_parcel_without_a_lease_can_be_started(leases: AnyLeases) -> None:
    assert leases.start(P, ME, LONG) == StartAnswer(StartVerdict.STARTED, 1)


def test_a_second_token_gets_busy_and_the_owner(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)

    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.BUSY, 0, ME)
    assert (read_lease(leases).owner, read_lease(leases).attempt) == (ME, 1)


def test_a_dead_owners_lease_can_be_acquired(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)

    assert leases.start(P, RIVAL, LONG, dead_owner=ME) == StartAnswer(StartVerdict.STARTED, 2)
    assert read_lease(leases).owner == RIVAL


def test_a_dead_process_that_is_not_the_owner_changes_nothing(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)

    assert leases.start(P, RIVAL, LONG, dead_owner="here/3/3") == StartAnswer(StartVerdict.BUSY, 0, ME)


def test_an_expired_running_lease_can_be_acquired(leases: AnyLeases) -> None:
    leases.start(P, ME, SHORT)
    expire_lease(leases)

    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.STARTED, 2)
    assert not leases.renew(P, ME, LONG)


def test_queueing_a_finished_parcel_resets_its_lease(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)
    leases.finish(P, ME, LONG)

    leases.queue(P, "drop", LONG)

    assert (read_lease(leases).state, read_lease(leases).owner) == (LeaseState.QUEUED, "")
    assert leases.start(P, RIVAL, LONG).verdict is StartVerdict.STARTED


def test_a_lease_keeps_what_the_last_start_said_about_its_only_file(leases: AnyLeases) -> None:
    leases.queue(P, "drop", LONG)
    assert read_lease(leases).lone_file == b""

    leases.start(P, ME, LONG, lone_file=b"a file \xff")
    leases.retry(P, ME, LONG)

    assert read_lease(leases).lone_file == b"a file \xff"
    leases.mark_filed(P)
    assert read_lease(leases).lone_file == b""


def test_a_deleted_lease_is_missing(leases: AnyLeases) -> None:
    leases.queue(P, "drop", LONG)
    leases.queue(OTHER, "drop", LONG)

    leases.delete(P)
    leases.delete(P)

    assert leases.read([P]) == {P: None}
    assert read_lease(leases, OTHER).state is LeaseState.QUEUED


def test_an_unchanged_running_lease_is_taken_over(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)

    assert leases.requeue_if_unchanged(P, read_lease(leases), 30.0) == 0
    assert (read_lease(leases).state, read_lease(leases).owner, read_lease(leases).attempt) == (LeaseState.QUEUED, "", 1)
    assert 25 < read_lease(leases).seconds_left <= 30
    assert not leases.renew(P, ME, LONG)


@pytest.mark.parametrize("operation", ["finish", "retry", "mark_filed"])
def test_an_unchanged_lease_in_any_state_is_taken_over(leases: AnyLeases, operation: str) -> None:
    leases.start(P, ME, LONG)
    getattr(leases, operation)(*((P,) if operation == "mark_filed" else (P, ME, LONG)))

    assert leases.requeue_if_unchanged(P, read_lease(leases), LONG) == 0
    assert read_lease(leases).state is LeaseState.QUEUED


def test_a_lease_that_is_still_missing_is_taken_over(leases: AnyLeases) -> None:
    assert leases.requeue_if_unchanged(P, None, LONG) == 0
    assert read_lease(leases).state is LeaseState.QUEUED


def test_only_the_first_of_two_take_overs_succeeds(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)
    expected = read_lease(leases)

    assert leases.requeue_if_unchanged(P, expected, LONG) == 0
    assert leases.requeue_if_unchanged(P, expected, LONG) is None
    assert leases.requeue_if_unchanged(P, None, LONG) is None


@pytest.mark.parametrize("operation", ["renew", "finish", "retry", "mark_filed", "delete"])
def test_a_changed_lease_is_not_taken_over(leases: AnyLeases, operation: str) -> None:
    leases.start(P, ME, LONG)
    expected = read_lease(leases)
    getattr(leases, operation)(*((P,) if operation in ("mark_filed", "delete") else (P, ME, 2 * LONG)))
    changed = leases.read([P])[P]

    assert leases.requeue_if_unchanged(P, expected, LONG, crashed=True) is None
    current = leases.read([P])[P]
    assert (current and (current.state, current.owner, current.crashes)) == (changed and (changed.state, changed.owner, 0))


def test_a_lease_with_a_new_owner_is_not_taken_over(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)
    expected = read_lease(leases)
    leases.start(P, RIVAL, LONG, dead_owner=ME)

    assert leases.requeue_if_unchanged(P, expected, LONG) is None
    assert read_lease(leases).owner == RIVAL


def test_a_renewal_extends_the_lease(leases: AnyLeases) -> None:
    leases.start(P, ME, SHORT)

    assert leases.renew(P, ME, LONG)
    assert read_lease(leases).seconds_left > LONG - 5


def test_a_renewal_with_another_token_changes_nothing(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)

    assert not leases.renew(P, RIVAL, 2 * LONG)
    assert read_lease(leases).owner == ME
    assert read_lease(leases).seconds_left <= LONG


def test_a_renewal_recreates_a_lost_lease(leases: AnyLeases, flush: Callable[[], object]) -> None:
    leases.start(P, ME, LONG)
    flush()

    assert leases.renew(P, ME, LONG)
    assert (read_lease(leases).state, read_lease(leases).owner, read_lease(leases).attempt) == (LeaseState.RUNNING, ME, 0)
    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.BUSY, 0, ME)


@pytest.mark.parametrize("operation", ["renew", "finish", "retry"])
def test_a_finished_parcel_does_not_change_its_state(leases: AnyLeases, operation: str) -> None:
    leases.start(P, ME, LONG)
    assert leases.finish(P, ME, LONG)

    assert not getattr(leases, operation)(P, ME, LONG)
    assert read_lease(leases).state is LeaseState.FINISHED


def test_a_finished_parcel_is_not_started_again(leases: AnyLeases) -> None:
    leases.start(P, ME, SHORT)
    leases.finish(P, ME, SHORT)
    expire_lease(leases)

    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.FINISHED, 0)


def test_a_filed_parcel_is_not_started_again(leases: AnyLeases) -> None:
    leases.mark_filed(P)

    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.FINISHED, 0)
    assert read_lease(leases).state is LeaseState.FILED
    assert read_lease(leases).seconds_left < 0


def test_redis_keeps_only_an_expiring_tombstone_of_a_filed_parcel(
    redis_leases: Leases, valkey: redis.Redis, valkey_url: str, tmp_path: Path
) -> None:
    app = make_app(settings_for(valkey_url, tmp_path), results=True)
    outcome, other_outcome = (app.backend.get_key_for_task(parcel) for parcel in (P, OTHER))
    valkey.mset({outcome: b"{}", other_outcome: b"{}"})
    redis_leases.start(P, ME, LONG)
    redis_leases.finish(P, ME, LONG)

    redis_leases.mark_filed(P)

    assert (valkey.exists(outcome), valkey.exists(other_outcome)) == (0, 1)
    assert valkey.hgetall(KEY + P) == {b"state": b"filed", b"until": b"0", b"token": b""}
    assert 0 < valkey.pttl(KEY + P) <= KEEP_SECONDS * 1000


def test_a_retry_releases_the_lease_and_keeps_the_attempts(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)

    assert leases.retry(P, ME, LONG)
    assert (read_lease(leases).state, read_lease(leases).owner) == (LeaseState.QUEUED, "")
    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.STARTED, 2)


def test_a_crash_is_counted_once_per_owner(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)
    first = read_lease(leases)

    assert leases.requeue_if_unchanged(P, first, LONG, crashed=True) == 1
    assert leases.requeue_if_unchanged(P, first, LONG, crashed=True) is None
    leases.start(P, RIVAL, LONG)
    assert leases.requeue_if_unchanged(P, first, LONG, crashed=True) is None
    assert leases.requeue_if_unchanged(P, read_lease(leases), LONG, crashed=True) == 2
    assert read_lease(leases).crashes == 2


def test_a_take_over_without_a_crash_returns_the_crashes_so_far(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)
    leases.requeue_if_unchanged(P, read_lease(leases), LONG, crashed=True)

    assert leases.requeue_if_unchanged(P, read_lease(leases), LONG + 1) == 1


def test_a_crash_uses_up_no_retry(leases: AnyLeases) -> None:
    leases.start(P, ME, LONG)
    leases.requeue_if_unchanged(P, read_lease(leases), LONG, crashed=True)
    leases.start(P, RIVAL, LONG)

    assert (read_lease(leases).attempt, read_lease(leases).crashes, read_lease(leases).attempts_used) == (2, 1, 1)


def test_several_leases_are_read_in_order(leases: AnyLeases) -> None:
    leases.queue(P, "drop", LONG)

    by_parcel = leases.read([OTHER, P])

    assert list(by_parcel) == [OTHER, P]
    assert by_parcel[OTHER] is None
    assert by_parcel[P] is not None
    assert leases.read([]) == {}


def test_the_dataset_age_is_near_zero_after_a_flush(leases: AnyLeases, flush: Callable[[], object]) -> None:
    flush()

    assert 0 <= leases.dataset_age() < 5


def test_the_dataset_age_grows(redis_leases: Leases, valkey: redis.Redis) -> None:
    redis_leases.dataset_age()
    valkey.decrby(DATASET_KEY, 50_000)

    assert 50 <= redis_leases.dataset_age() < 60


def test_an_unknown_mean_is_none(leases: AnyLeases) -> None:
    assert leases.queue(P, "drop", LONG) is None


def test_the_newest_value_has_a_weight_of_30_percent_in_the_mean(leases: AnyLeases) -> None:
    leases.report_seconds_per_file("drop", 1.0)
    assert leases.queue(P, "drop", LONG) == pytest.approx(1.0)
    leases.report_seconds_per_file("drop", 2.0)
    assert leases.queue(P, "drop", LONG) == pytest.approx(1.3)
    leases.report_seconds_per_file("drop", 0.0)

    assert leases.queue(P, "drop", LONG) == pytest.approx(0.91)
    assert leases.queue(P, "other", LONG) is None


@pytest.mark.parametrize("seconds", [0.0, 1e-7, 0.000001, 123456.789])
def test_a_mean_of_any_size_is_kept_to_the_microsecond(redis_leases: Leases, seconds: float) -> None:
    redis_leases.report_seconds_per_file("drop", seconds)

    assert redis_leases.queue(P, "drop", LONG) == pytest.approx(seconds, abs=1e-6)


CHANGES: dict[str, Callable[[Leases], object]] = {
    "queue": lambda leases: leases.queue(P, "drop", LONG),
    "start": lambda leases: leases.start(P, ME, LONG),
    "renew": lambda leases: leases.renew(P, ME, LONG),
    "finish": lambda leases: leases.finish(P, ME, LONG),
    "retry": lambda leases: leases.retry(P, ME, LONG),
    "mark_filed": lambda leases: leases.mark_filed(P),
    "requeue_if_unchanged": lambda leases: leases.requeue_if_unchanged(P, None, LONG),
}


@pytest.mark.parametrize("change", [*CHANGES])
def test_every_change_resets_the_keys_expiry(redis_leases: Leases, valkey: redis.Redis, change: str) -> None:
    CHANGES[change](redis_leases)

    assert (KEEP_SECONDS - 5) * 1000 < valkey.pttl(KEY + P) <= KEEP_SECONDS * 1000


CALLS: dict[str, Callable[[Leases], object]] = {
    **CHANGES,
    "delete": lambda leases: leases.delete(P),
    "read": lambda leases: leases.read([P]),
    "dataset_age": lambda leases: leases.dataset_age(),
    "report_seconds_per_file": lambda leases: leases.report_seconds_per_file("drop", 1.0),
}
TIMEOUT_SECONDS = 0.05


@pytest.fixture(params=["missing", "silent"])
def unreachable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Leases]:
    """Yield leases on a server that does not run, or accepts requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}" if request.param == "silent" else f"unix://{tmp_path}/none.sock"
        settings = settings_for(url, tmp_path)
        limited = settings.redis.model_copy(
            update={"connect_timeout_seconds": TIMEOUT_SECONDS, "socket_timeout_seconds": TIMEOUT_SECONDS}
        )
        with make_client(settings.model_copy(update={"redis": limited})) as client:
            yield Leases(client, KEEP_SECONDS)


@pytest.mark.parametrize("call", [*CALLS])
def test_an_unreachable_server_raises_broker_unavailable_within_the_timeouts(unreachable: Leases, call: str) -> None:
    started_at = time.monotonic()

    with pytest.raises(BrokerUnavailable):
        CALLS[call](unreachable)

    assert time.monotonic() - started_at < 20 * TIMEOUT_SECONDS


def test_a_start_repeated_because_its_reply_was_lost_counts_once(redis_leases: Leases) -> None:
    redis_leases.start(P, "me", 60.0)

    repeated = redis_leases.start(P, "me", 60.0)

    assert (repeated.verdict, repeated.attempt) == (StartVerdict.STARTED, 1)
    assert redis_leases.start(P, "another", 60.0).verdict is StartVerdict.BUSY


def test_a_crash_repeated_because_its_reply_was_lost_counts_once(redis_leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    redis_leases.start(P, "dead", 60.0)
    expected = redis_leases.read([P])[P]
    monkeypatch.setattr(secrets, "token_hex", lambda _: "the same call")

    assert [redis_leases.requeue_if_unchanged(P, expected, 60.0, crashed=True) for _ in range(2)] == [1, 1]
    monkeypatch.undo()
    assert redis_leases.requeue_if_unchanged(P, expected, 60.0, crashed=True) is None
