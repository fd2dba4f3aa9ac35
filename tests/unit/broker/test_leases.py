"""Leases: the real ones on a real Valkey, and the tests' fake held to the same word."""

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
KEEP = 100.0
BOTH = ["redis", "fake"]

Any = Leases | FakeLeases


@pytest.fixture(params=BOTH)
def leases(request: pytest.FixtureRequest) -> Any:
    return FakeLeases() if request.param == "fake" else Leases(request.getfixturevalue("valkey"), KEEP)


@pytest.fixture
def real(valkey: redis.Redis) -> Leases:
    return Leases(valkey, KEEP)


@pytest.fixture
def flush(leases: Any, request: pytest.FixtureRequest) -> Callable[[], object]:
    return leases.flush if isinstance(leases, FakeLeases) else request.getfixturevalue("valkey").flushall


def look(leases: Any, parcel: str = P) -> Lease:
    lease = leases.read([parcel])[parcel]
    assert lease is not None
    return lease


def lapse(leases: Any, parcel: str = P) -> None:
    """Let time pass until a short lease is over."""
    if isinstance(leases, FakeLeases):
        leases.now += 1
    eventually(lambda: look(leases, parcel).seconds_left < 0)


def test_a_parcel_that_is_queued_is_nobodys_and_untried(leases: Any) -> None:
    leases.queue(P, "drop", LONG)

    lease = look(leases)
    assert (lease.state, lease.owner, lease.attempt, lease.crashes) == (LeaseState.QUEUED, "", 0, 0)
    assert LONG - 5 < lease.seconds_left <= LONG


def test_a_start_gives_the_lease_and_counts_the_attempt(leases: Any) -> None:
    leases.queue(P, "drop", LONG)

    assert leases.start(P, ME, LONG) == StartAnswer(StartVerdict.STARTED, 1)
    assert (look(leases).state, look(leases).owner, look(leases).attempt) == (LeaseState.RUNNING, ME, 1)


def test_a_parcel_that_nobody_has_queued_can_be_started(leases: Any) -> None:
    assert leases.start(P, ME, LONG) == StartAnswer(StartVerdict.STARTED, 1)


def test_the_second_token_is_told_that_it_is_busy_and_with_whom(leases: Any) -> None:
    leases.start(P, ME, LONG)

    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.BUSY, 0, ME)
    assert (look(leases).owner, look(leases).attempt) == (ME, 1)


def test_an_owner_that_is_known_to_be_dead_is_passed_over(leases: Any) -> None:
    leases.start(P, ME, LONG)

    assert leases.start(P, RIVAL, LONG, dead_owner=ME) == StartAnswer(StartVerdict.STARTED, 2)
    assert look(leases).owner == RIVAL


def test_only_the_owner_that_is_dead_is_passed_over(leases: Any) -> None:
    leases.start(P, ME, LONG)

    assert leases.start(P, RIVAL, LONG, dead_owner="here/3/3") == StartAnswer(StartVerdict.BUSY, 0, ME)


def test_a_running_lease_that_has_lapsed_can_be_started_by_another(leases: Any) -> None:
    leases.start(P, ME, SHORT)
    lapse(leases)

    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.STARTED, 2)
    assert not leases.renew(P, ME, LONG)


def test_queueing_starts_afresh(leases: Any) -> None:
    leases.start(P, ME, LONG)
    leases.finish(P, ME, LONG)

    leases.queue(P, "drop", LONG)

    assert (look(leases).state, look(leases).owner) == (LeaseState.QUEUED, "")
    assert leases.start(P, RIVAL, LONG).verdict is StartVerdict.STARTED


def test_a_parcel_that_came_to_nothing_is_forgotten(leases: Any) -> None:
    leases.queue(P, "drop", LONG)
    leases.queue(OTHER, "drop", LONG)

    leases.delete(P)
    leases.delete(P)

    assert leases.read([P]) == {P: None}
    assert look(leases, OTHER).state is LeaseState.QUEUED


def test_a_lease_that_is_as_it_was_seen_is_taken_over(leases: Any) -> None:
    leases.start(P, ME, LONG)

    assert leases.take_over(P, look(leases), 30.0) == 0
    assert (look(leases).state, look(leases).owner, look(leases).attempt) == (LeaseState.QUEUED, "", 1)
    assert 25 < look(leases).seconds_left <= 30
    assert not leases.renew(P, ME, LONG)


@pytest.mark.parametrize("settled", ["finish", "retry", "mark_filed"])
def test_whatever_was_seen_is_taken_over(leases: Any, settled: str) -> None:
    leases.start(P, ME, LONG)
    getattr(leases, settled)(*((P,) if settled == "mark_filed" else (P, ME, LONG)))

    assert leases.take_over(P, look(leases), LONG) == 0
    assert look(leases).state is LeaseState.QUEUED


def test_a_missing_lease_that_was_seen_missing_is_taken_over(leases: Any) -> None:
    assert leases.take_over(P, None, LONG) == 0
    assert look(leases).state is LeaseState.QUEUED


def test_only_one_of_two_who_have_seen_the_same_takes_over(leases: Any) -> None:
    leases.start(P, ME, LONG)
    seen = look(leases)

    assert leases.take_over(P, seen, LONG) == 0
    assert leases.take_over(P, seen, LONG) is None
    assert leases.take_over(P, None, LONG) is None


@pytest.mark.parametrize("moved", ["renew", "finish", "retry", "mark_filed", "delete"])
def test_a_parcel_that_has_moved_on_since_it_was_seen_is_left_alone(leases: Any, moved: str) -> None:
    leases.start(P, ME, LONG)
    seen = look(leases)
    getattr(leases, moved)(*((P,) if moved in ("mark_filed", "delete") else (P, ME, 2 * LONG)))
    after = leases.read([P])[P]

    assert leases.take_over(P, seen, LONG, crashed=True) is None
    now = leases.read([P])[P]
    assert (now and (now.state, now.owner, now.crashes)) == (after and (after.state, after.owner, 0))


def test_a_parcel_that_another_has_started_since_is_left_alone(leases: Any) -> None:
    leases.start(P, ME, LONG)
    seen = look(leases)
    leases.start(P, RIVAL, LONG, dead_owner=ME)

    assert leases.take_over(P, seen, LONG) is None
    assert look(leases).owner == RIVAL


def test_a_renewal_prolongs_the_lease(leases: Any) -> None:
    leases.start(P, ME, SHORT)

    assert leases.renew(P, ME, LONG)
    assert look(leases).seconds_left > LONG - 5


def test_a_rivals_renewal_is_refused_and_changes_nothing(leases: Any) -> None:
    leases.start(P, ME, LONG)

    assert not leases.renew(P, RIVAL, 2 * LONG)
    assert look(leases).owner == ME
    assert look(leases).seconds_left <= LONG


def test_a_renewal_takes_a_forgotten_lease_anew(leases: Any, flush: Callable[[], object]) -> None:
    leases.start(P, ME, LONG)
    flush()

    assert leases.renew(P, ME, LONG)
    assert (look(leases).state, look(leases).owner, look(leases).attempt) == (LeaseState.RUNNING, ME, 0)
    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.BUSY, 0, ME)


@pytest.mark.parametrize("then", ["renew", "finish", "retry"])
def test_what_is_finished_moves_on_no_more(leases: Any, then: str) -> None:
    leases.start(P, ME, LONG)
    assert leases.finish(P, ME, LONG)

    assert not getattr(leases, then)(P, ME, LONG)
    assert look(leases).state is LeaseState.FINISHED


def test_a_copy_of_a_message_whose_parcel_is_finished_is_not_started(leases: Any) -> None:
    leases.start(P, ME, SHORT)
    leases.finish(P, ME, SHORT)
    lapse(leases)

    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.FINISHED, 0)


def test_a_copy_of_a_message_whose_parcel_is_filed_is_not_started(leases: Any) -> None:
    leases.mark_filed(P)

    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.FINISHED, 0)
    assert look(leases).state is LeaseState.FILED
    assert look(leases).seconds_left < 0


def test_of_what_is_filed_redis_keeps_a_small_word_for_some_time_and_nothing_else(
    real: Leases, valkey: redis.Redis, valkey_url: str, tmp_path: Path
) -> None:
    app = make_app(settings_for(valkey_url, tmp_path), results=True)
    outcome, another = (app.backend.get_key_for_task(parcel) for parcel in (P, OTHER))
    valkey.mset({outcome: b"{}", another: b"{}"})
    real.start(P, ME, LONG)
    real.finish(P, ME, LONG)

    real.mark_filed(P)

    assert (valkey.exists(outcome), valkey.exists(another)) == (0, 1)
    assert valkey.hgetall(KEY + P) == {b"state": b"filed", b"until": b"0", b"token": b""}
    assert 0 < valkey.pttl(KEY + P) <= KEEP * 1000


def test_a_retry_hands_the_lease_back_and_keeps_the_count(leases: Any) -> None:
    leases.start(P, ME, LONG)

    assert leases.retry(P, ME, LONG)
    assert (look(leases).state, look(leases).owner) == (LeaseState.QUEUED, "")
    assert leases.start(P, RIVAL, LONG) == StartAnswer(StartVerdict.STARTED, 2)


def test_a_crash_is_counted_once_for_each_token(leases: Any) -> None:
    leases.start(P, ME, LONG)
    first = look(leases)

    assert leases.take_over(P, first, LONG, crashed=True) == 1
    assert leases.take_over(P, first, LONG, crashed=True) is None
    leases.start(P, RIVAL, LONG)
    assert leases.take_over(P, first, LONG, crashed=True) is None
    assert leases.take_over(P, look(leases), LONG, crashed=True) == 2
    assert look(leases).crashes == 2


def test_a_take_over_without_a_death_tells_how_many_there_were(leases: Any) -> None:
    leases.start(P, ME, LONG)
    leases.take_over(P, look(leases), LONG, crashed=True)

    assert leases.take_over(P, look(leases), LONG + 1) == 1


def test_a_workers_death_uses_up_no_retry(leases: Any) -> None:
    leases.start(P, ME, LONG)
    leases.take_over(P, look(leases), LONG, crashed=True)
    leases.start(P, RIVAL, LONG)

    assert (look(leases).attempt, look(leases).crashes, look(leases).used_retries) == (2, 1, 1)


def test_many_leases_are_read_at_once(leases: Any) -> None:
    leases.queue(P, "drop", LONG)

    found = leases.read([OTHER, P])

    assert list(found) == [OTHER, P]
    assert found[OTHER] is None
    assert found[P] is not None
    assert leases.read([]) == {}


def test_the_memory_is_new_after_everything_is_lost(leases: Any, flush: Callable[[], object]) -> None:
    flush()

    assert 0 <= leases.dataset_age() < 5


def test_the_memory_grows_old(real: Leases, valkey: redis.Redis) -> None:
    real.dataset_age()
    valkey.decrby(DATASET_KEY, 50_000)

    assert 50 <= real.dataset_age() < 60


def test_an_unknown_pace_is_none(leases: Any) -> None:
    assert leases.queue(P, "drop", LONG) is None


def test_paces_mix_so_that_the_newest_counts_a_third_or_so(leases: Any) -> None:
    leases.report_seconds_per_file("drop", 1.0)
    assert leases.queue(P, "drop", LONG) == pytest.approx(1.0)
    leases.report_seconds_per_file("drop", 2.0)
    assert leases.queue(P, "drop", LONG) == pytest.approx(1.3)
    leases.report_seconds_per_file("drop", 0.0)

    assert leases.queue(P, "drop", LONG) == pytest.approx(0.91)
    assert leases.queue(P, "other", LONG) is None


@pytest.mark.parametrize("pace", [0.0, 1e-7, 0.000001, 123456.789])
def test_a_pace_of_any_size_is_kept_to_the_microsecond(real: Leases, pace: float) -> None:
    real.report_seconds_per_file("drop", pace)

    assert real.queue(P, "drop", LONG) == pytest.approx(pace, abs=1e-6)


CHANGES: dict[str, Callable[[Leases], object]] = {
    "queue": lambda leases: leases.queue(P, "drop", LONG),
    "start": lambda leases: leases.start(P, ME, LONG),
    "renew": lambda leases: leases.renew(P, ME, LONG),
    "finish": lambda leases: leases.finish(P, ME, LONG),
    "retry": lambda leases: leases.retry(P, ME, LONG),
    "filed": lambda leases: leases.mark_filed(P),
    "take_over": lambda leases: leases.take_over(P, None, LONG),
}


@pytest.mark.parametrize("change", [*CHANGES])
def test_every_change_keeps_the_record_for_so_long_and_no_longer(real: Leases, valkey: redis.Redis, change: str) -> None:
    CHANGES[change](real)

    assert (KEEP - 5) * 1000 < valkey.pttl(KEY + P) <= KEEP * 1000


CALLS: dict[str, Callable[[Leases], object]] = {
    **CHANGES,
    "forget": lambda leases: leases.delete(P),
    "read": lambda leases: leases.read([P]),
    "epoch_age": lambda leases: leases.dataset_age(),
    "report_pace": lambda leases: leases.report_seconds_per_file("drop", 1.0),
}
TIMEOUT = 0.05


@pytest.fixture(params=["gone", "silent"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Leases]:
    """Leases on a server that is not there, or takes what it is sent and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}" if request.param == "silent" else f"unix://{tmp_path}/none.sock"
        settings = settings_for(url, tmp_path)
        quick = settings.redis.model_copy(update={"connect_timeout_seconds": TIMEOUT, "socket_timeout_seconds": TIMEOUT})
        with make_client(settings.model_copy(update={"redis": quick})) as client:
            yield Leases(client, KEEP)


@pytest.mark.parametrize("call", [*CALLS])
def test_a_server_that_is_away_is_weather_and_told_within_the_timeouts(away: Leases, call: str) -> None:
    begun = time.monotonic()

    with pytest.raises(BrokerUnavailable):
        CALLS[call](away)

    assert time.monotonic() - begun < 20 * TIMEOUT


def test_a_start_that_is_asked_twice_because_its_answer_was_lost_is_one_start(real: Leases) -> None:
    real.start(P, "me", 60.0)

    again = real.start(P, "me", 60.0)

    assert (again.verdict, again.attempt) == (StartVerdict.STARTED, 1)
    assert real.start(P, "another", 60.0).verdict is StartVerdict.BUSY


def test_a_death_that_is_counted_twice_because_the_answer_was_lost_counts_once(
    real: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    real.start(P, "dead", 60.0)
    seen = real.read([P])[P]
    monkeypatch.setattr(secrets, "token_hex", lambda _: "the same call")

    assert [real.take_over(P, seen, 60.0, crashed=True) for _ in range(2)] == [1, 1]
    monkeypatch.undo()
    assert real.take_over(P, seen, 60.0, crashed=True) is None
