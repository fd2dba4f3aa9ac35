"""Which claimed parcels need help, and what help: every row of the decision."""

import pytest

from inboxd.broker.leases import Held, Lease
from inboxd.broker.recovery import Found, Help, Limits, decide, gives_up, state_of
from inboxd.spool.lifecycle import State

GRACE = 5.0
RENEWAL = GRACE + 3.0
OLD = 100.0
PARCEL = "0" * 28


def lease(held: Held, left: float = -1.0, attempt: int = 1, crashes: int = 0) -> Lease:
    return Lease(held, left, "here/1/1" if held is Held.RUNNING else "", attempt, crashes)


def help_for(
    held: Lease | None,
    *,
    age: float = OLD,
    files: int = 1,
    outcome: bool = False,
    queued: bool = False,
    epoch_age: float = OLD,
) -> Help:
    found = Found(PARCEL, age, files, outcome)
    in_queue = frozenset([PARCEL]) if queued else frozenset[str]()
    return decide([found], {PARCEL: held}, in_queue, epoch_age, Limits(GRACE, RENEWAL))[PARCEL]


@pytest.mark.parametrize("held", Held)
@pytest.mark.parametrize("outcome", [False, True])
@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_parcel_whose_lease_has_not_lapsed_is_left_alone(held: Held, outcome: bool, files: int) -> None:
    assert help_for(lease(held, left=0.1), outcome=outcome, files=files) is Help.LEAVE


def test_a_parcel_without_a_lease_is_published() -> None:
    assert help_for(None) is Help.PUBLISH


def test_a_young_parcel_without_a_lease_is_just_being_sent() -> None:
    assert help_for(None, age=GRACE - 0.1) is Help.LEAVE
    assert help_for(None, age=GRACE) is Help.PUBLISH


def test_right_after_redis_lost_its_memory_workers_get_time_to_take_their_leases_anew() -> None:
    assert help_for(None, epoch_age=RENEWAL - 0.1) is Help.LEAVE
    assert help_for(None, epoch_age=RENEWAL) is Help.PUBLISH


@pytest.mark.parametrize("held", Held)
def test_a_lapsed_lease_is_not_excused_by_youth(held: Held) -> None:
    assert help_for(lease(held), age=0.0, epoch_age=0.0) is not Help.LEAVE


def test_a_parcel_without_a_lease_whose_outcome_is_stored_is_filed_away() -> None:
    assert help_for(None, outcome=True) is Help.FILE_AWAY


def test_a_parcel_whose_message_is_lost_is_published() -> None:
    assert help_for(lease(Held.QUEUED)) is Help.PUBLISH


@pytest.mark.parametrize("held", [Held.QUEUED, Held.RUNNING])
def test_a_parcel_whose_message_still_waits_is_left_to_it(held: Held) -> None:
    assert help_for(lease(held), queued=True) is Help.RENEW


def test_a_parcel_whose_worker_fell_silent_counts_as_crashed() -> None:
    assert help_for(lease(Held.RUNNING)) is Help.CRASHED


@pytest.mark.parametrize("held", [Held.QUEUED, Held.RUNNING, Held.FINISHED])
@pytest.mark.parametrize("queued", [False, True])
def test_a_stored_outcome_is_carried_out_whatever_the_lapsed_lease_says(held: Held, queued: bool) -> None:
    assert help_for(lease(held), outcome=True, queued=queued) is Help.FILE_AWAY


def test_a_finished_parcel_whose_outcome_was_lost_is_worked_on_again() -> None:
    assert help_for(lease(Held.FINISHED)) is Help.PUBLISH


@pytest.mark.parametrize("outcome", [False, True])
def test_what_is_left_in_a_filed_parcel_is_adopted(outcome: bool) -> None:
    assert help_for(lease(Held.FILED), outcome=outcome) is Help.ADOPT


@pytest.mark.parametrize("held", [None, *Held])
@pytest.mark.parametrize("outcome", [False, True])
def test_an_empty_parcel_is_discarded(held: Held | None, outcome: bool) -> None:
    assert help_for(held and lease(held), files=0, outcome=outcome) is Help.DISCARD


def test_an_empty_young_parcel_is_just_being_filled() -> None:
    assert help_for(None, files=0, age=0.0) is Help.LEAVE


def test_every_parcel_that_was_found_is_decided_about() -> None:
    found = [Found(f"{number:028x}", OLD, number, outcome=False) for number in range(3)]

    decisions = decide(found, {}, frozenset(), OLD, Limits(GRACE, RENEWAL))

    assert decisions == {found[0].id: Help.DISCARD, found[1].id: Help.PUBLISH, found[2].id: Help.PUBLISH}


@pytest.mark.parametrize(
    ("files", "crashes", "help_"),
    [
        (1, 1, Help.PUBLISH),
        (1, 2, Help.PUBLISH),
        (1, 3, Help.FILE_AWAY),
        (1, 4, Help.FILE_AWAY),
        (2, 1, Help.ADOPT),
        (9, 9, Help.ADOPT),
    ],
)
def test_a_file_that_kills_its_workers_gets_its_chances_alone(files: int, crashes: int, help_: Help) -> None:
    assert gives_up(crashes, files, crashes_max=3) is help_


@pytest.mark.parametrize(
    ("held", "outcome", "state"),
    [
        (None, False, State.CLAIMED),
        (None, True, State.FINISHED),
        (Held.QUEUED, False, State.QUEUED),
        (Held.RUNNING, False, State.RUNNING),
        (Held.FINISHED, False, State.FINISHED),
        (Held.FILED, True, State.FINISHED),
    ],
)
def test_where_a_parcel_stands_is_told_from_its_lease(held: Held | None, outcome: bool, state: State) -> None:
    assert state_of(held and lease(held), outcome=outcome) is state


@pytest.mark.parametrize(("attempt", "crashes", "retries"), [(0, 0, 0), (1, 0, 1), (3, 2, 1), (1, 2, 0)])
def test_a_workers_death_does_not_count_as_the_handlers_failure(attempt: int, crashes: int, retries: int) -> None:
    assert lease(Held.RUNNING, attempt=attempt, crashes=crashes).retries == retries


def test_a_parcel_whose_split_was_begun_does_not_go_out_in_company_again() -> None:
    assert help_for(lease(Held.QUEUED, crashes=1), files=3) is Help.ADOPT
    assert help_for(lease(Held.QUEUED, crashes=1), files=1) is Help.PUBLISH
    assert help_for(lease(Held.QUEUED, crashes=0), files=3) is Help.PUBLISH
