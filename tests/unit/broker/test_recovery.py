"""Which claimed parcels need help, and what help: every row of the decision."""

import pytest

from inboxd.broker.leases import Lease, LeaseState
from inboxd.broker.recovery import (
    ClaimedParcel,
    GracePeriods,
    ParcelState,
    RecoveryAction,
    action_after_crash,
    choose_actions,
    parcel_state,
)

GRACE = 5.0
RENEWAL = GRACE + 3.0
OLD = 100.0
PARCEL = "0" * 28


def lease(held: LeaseState, left: float = -1.0, attempt: int = 1, crashes: int = 0) -> Lease:
    return Lease(held, left, "here/1/1" if held is LeaseState.RUNNING else "", attempt, crashes)


def help_for(
    held: Lease | None,
    *,
    age: float = OLD,
    files: int = 1,
    outcome: bool = False,
    queued: bool = False,
    epoch_age: float = OLD,
) -> RecoveryAction:
    found = ClaimedParcel(PARCEL, age, files, outcome)
    in_queue = frozenset([PARCEL]) if queued else frozenset[str]()
    return choose_actions([found], {PARCEL: held}, in_queue, epoch_age, GracePeriods(GRACE, RENEWAL))[PARCEL]


@pytest.mark.parametrize("held", LeaseState)
@pytest.mark.parametrize("outcome", [False, True])
@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_parcel_whose_lease_has_not_lapsed_is_left_alone(held: LeaseState, outcome: bool, files: int) -> None:
    assert help_for(lease(held, left=0.1), outcome=outcome, files=files) is RecoveryAction.LEAVE


def test_a_parcel_without_a_lease_is_published() -> None:
    assert help_for(None) is RecoveryAction.REPUBLISH


def test_a_young_parcel_without_a_lease_is_just_being_sent() -> None:
    assert help_for(None, age=GRACE - 0.1) is RecoveryAction.LEAVE
    assert help_for(None, age=GRACE) is RecoveryAction.REPUBLISH


def test_right_after_redis_lost_its_memory_workers_get_time_to_take_their_leases_anew() -> None:
    assert help_for(None, epoch_age=RENEWAL - 0.1) is RecoveryAction.LEAVE
    assert help_for(None, epoch_age=RENEWAL) is RecoveryAction.REPUBLISH


@pytest.mark.parametrize("held", LeaseState)
def test_a_lapsed_lease_is_not_excused_by_youth(held: LeaseState) -> None:
    assert help_for(lease(held), age=0.0, epoch_age=0.0) is not RecoveryAction.LEAVE


def test_a_parcel_without_a_lease_whose_outcome_is_stored_is_filed_away() -> None:
    assert help_for(None, outcome=True) is RecoveryAction.FILE


def test_a_parcel_whose_message_is_lost_is_published() -> None:
    assert help_for(lease(LeaseState.QUEUED)) is RecoveryAction.REPUBLISH


@pytest.mark.parametrize("held", [LeaseState.QUEUED, LeaseState.RUNNING])
def test_a_parcel_whose_message_still_waits_is_left_to_it(held: LeaseState) -> None:
    assert help_for(lease(held), queued=True) is RecoveryAction.RENEW


def test_a_parcel_whose_worker_fell_silent_counts_as_crashed() -> None:
    assert help_for(lease(LeaseState.RUNNING)) is RecoveryAction.COUNT_CRASH


@pytest.mark.parametrize("held", [LeaseState.QUEUED, LeaseState.RUNNING, LeaseState.FINISHED])
@pytest.mark.parametrize("queued", [False, True])
def test_a_stored_outcome_is_carried_out_whatever_the_lapsed_lease_says(held: LeaseState, queued: bool) -> None:
    assert help_for(lease(held), outcome=True, queued=queued) is RecoveryAction.FILE


def test_a_finished_parcel_whose_outcome_was_lost_is_worked_on_again() -> None:
    assert help_for(lease(LeaseState.FINISHED)) is RecoveryAction.REPUBLISH


@pytest.mark.parametrize("outcome", [False, True])
def test_what_is_left_in_a_filed_parcel_is_adopted(outcome: bool) -> None:
    assert help_for(lease(LeaseState.FILED), outcome=outcome) is RecoveryAction.SPLIT


@pytest.mark.parametrize("held", [None, *LeaseState])
@pytest.mark.parametrize("outcome", [False, True])
def test_an_empty_parcel_is_discarded(held: LeaseState | None, outcome: bool) -> None:
    assert help_for(held and lease(held), files=0, outcome=outcome) is RecoveryAction.REMOVE


def test_an_empty_young_parcel_is_just_being_filled() -> None:
    assert help_for(None, files=0, age=0.0) is RecoveryAction.LEAVE


def test_every_parcel_that_was_found_is_decided_about() -> None:
    found = [ClaimedParcel(f"{number:028x}", OLD, number, has_outcome=False) for number in range(3)]

    decisions = choose_actions(found, {}, frozenset(), OLD, GracePeriods(GRACE, RENEWAL))

    assert decisions == {
        found[0].id: RecoveryAction.REMOVE,
        found[1].id: RecoveryAction.REPUBLISH,
        found[2].id: RecoveryAction.REPUBLISH,
    }


@pytest.mark.parametrize(
    ("files", "crashes", "help_"),
    [
        (1, 1, RecoveryAction.REPUBLISH),
        (1, 2, RecoveryAction.REPUBLISH),
        (1, 3, RecoveryAction.FILE),
        (1, 4, RecoveryAction.FILE),
        (2, 1, RecoveryAction.SPLIT),
        (9, 9, RecoveryAction.SPLIT),
    ],
)
def test_a_file_that_kills_its_workers_gets_its_chances_alone(files: int, crashes: int, help_: RecoveryAction) -> None:
    assert action_after_crash(crashes, files, crashes_max=3) is help_


@pytest.mark.parametrize(
    ("held", "outcome", "state"),
    [
        (None, False, ParcelState.CLAIMED),
        (None, True, ParcelState.FINISHED),
        (LeaseState.QUEUED, False, ParcelState.QUEUED),
        (LeaseState.RUNNING, False, ParcelState.RUNNING),
        (LeaseState.FINISHED, False, ParcelState.FINISHED),
        (LeaseState.FILED, True, ParcelState.FINISHED),
    ],
)
def test_where_a_parcel_stands_is_told_from_its_lease(held: LeaseState | None, outcome: bool, state: ParcelState) -> None:
    assert parcel_state(held and lease(held), outcome=outcome) is state


@pytest.mark.parametrize(("attempt", "crashes", "retries"), [(0, 0, 0), (1, 0, 1), (3, 2, 1), (1, 2, 0)])
def test_a_workers_death_does_not_count_as_the_handlers_failure(attempt: int, crashes: int, retries: int) -> None:
    assert lease(LeaseState.RUNNING, attempt=attempt, crashes=crashes).used_retries == retries


def test_a_parcel_whose_split_was_begun_does_not_go_out_in_company_again() -> None:
    assert help_for(lease(LeaseState.QUEUED, crashes=1), files=3) is RecoveryAction.SPLIT
    assert help_for(lease(LeaseState.QUEUED, crashes=1), files=1) is RecoveryAction.REPUBLISH
    assert help_for(lease(LeaseState.QUEUED, crashes=0), files=3) is RecoveryAction.REPUBLISH
