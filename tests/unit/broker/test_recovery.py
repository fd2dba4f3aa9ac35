"""Which claimed parcels need recovery, and how: every row of the decision table."""

import pytest
from support.live.log_lines import NOON, line

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
from inboxd.console.log_reading.records import parse
from inboxd.logs import events

GRACE = 5.0
RENEWAL = GRACE + 3.0
OLD = 100.0
PARCEL = "0" * 28


def make_lease(state: LeaseState, seconds_left: float = -1.0, attempt: int = 1, crashes: int = 0) -> Lease:
    return Lease(state, seconds_left, "here/1/1" if state is LeaseState.RUNNING else "", attempt, crashes)


def action_for(
    lease: Lease | None,
    *,
    age: float = OLD,
    files: int = 1,
    has_outcome: bool = False,
    queued: bool = False,
    dataset_age: float = OLD,
) -> RecoveryAction:
    parcel = ClaimedParcel(PARCEL, age, files, has_outcome)
    queued_ids = frozenset([PARCEL]) if queued else frozenset[str]()
    return choose_actions([parcel], {PARCEL: lease}, queued_ids, dataset_age, GracePeriods(GRACE, RENEWAL))[PARCEL]


@pytest.mark.parametrize("state", LeaseState)
@pytest.mark.parametrize("has_outcome", [False, True])
@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_parcel_whose_lease_has_not_expired_is_left_alone(state: LeaseState, has_outcome: bool, files: int) -> None:
    assert action_for(make_lease(state, seconds_left=0.1), has_outcome=has_outcome, files=files) is RecoveryAction.LEAVE


def test_a_parcel_without_a_lease_is_published_again() -> None:
    assert action_for(None) is RecoveryAction.REPUBLISH


def test_a_new_parcel_without_a_lease_is_left_alone() -> None:
    assert action_for(None, age=GRACE - 0.1) is RecoveryAction.LEAVE
    assert action_for(None, age=GRACE) is RecoveryAction.REPUBLISH


def test_after_redis_lost_its_dataset_workers_have_time_to_recreate_their_leases() -> None:
    assert action_for(None, dataset_age=RENEWAL - 0.1) is RecoveryAction.LEAVE
    assert action_for(None, dataset_age=RENEWAL) is RecoveryAction.REPUBLISH


@pytest.mark.parametrize("state", LeaseState)
def test_a_new_parcel_with_an_expired_lease_is_recovered(state: LeaseState) -> None:
    assert action_for(make_lease(state), age=0.0, dataset_age=0.0) is not RecoveryAction.LEAVE


def test_a_parcel_without_a_lease_whose_outcome_is_stored_is_filed() -> None:
    assert action_for(None, has_outcome=True) is RecoveryAction.APPLY


def test_a_parcel_whose_message_is_lost_is_published_again() -> None:
    assert action_for(make_lease(LeaseState.QUEUED)) is RecoveryAction.REPUBLISH


@pytest.mark.parametrize("state", [LeaseState.QUEUED, LeaseState.RUNNING])
def test_a_parcel_whose_message_still_waits_has_its_lease_renewed(state: LeaseState) -> None:
    assert action_for(make_lease(state), queued=True) is RecoveryAction.RENEW


def test_a_running_parcel_whose_lease_expired_counts_as_a_crash() -> None:
    assert action_for(make_lease(LeaseState.RUNNING)) is RecoveryAction.COUNT_CRASH


@pytest.mark.parametrize("state", [LeaseState.QUEUED, LeaseState.RUNNING, LeaseState.FINISHED])
@pytest.mark.parametrize("queued", [False, True])
def test_a_stored_outcome_is_filed_whatever_the_state_of_the_expired_lease(state: LeaseState, queued: bool) -> None:
    assert action_for(make_lease(state), has_outcome=True, queued=queued) is RecoveryAction.APPLY


def test_a_finished_parcel_whose_outcome_is_lost_is_published_again() -> None:
    assert action_for(make_lease(LeaseState.FINISHED)) is RecoveryAction.REPUBLISH


@pytest.mark.parametrize("has_outcome", [False, True])
def test_files_left_in_a_filed_parcel_are_split_off(has_outcome: bool) -> None:
    assert action_for(make_lease(LeaseState.FILED), has_outcome=has_outcome) is RecoveryAction.SPLIT


@pytest.mark.parametrize("state", [None, *LeaseState])
@pytest.mark.parametrize("has_outcome", [False, True])
def test_an_empty_parcel_is_removed(state: LeaseState | None, has_outcome: bool) -> None:
    assert action_for(state and make_lease(state), files=0, has_outcome=has_outcome) is RecoveryAction.REMOVE


def test_a_new_empty_parcel_is_left_alone() -> None:
    assert action_for(None, files=0, age=0.0) is RecoveryAction.LEAVE


def test_each_parcel_gets_an_action() -> None:
    parcels = [ClaimedParcel(f"{number:028x}", OLD, number, has_outcome=False) for number in range(3)]

    decisions = choose_actions(parcels, {}, frozenset(), OLD, GracePeriods(GRACE, RENEWAL))

    assert decisions == {
        parcels[0].id: RecoveryAction.REMOVE,
        parcels[1].id: RecoveryAction.REPUBLISH,
        parcels[2].id: RecoveryAction.REPUBLISH,
    }


@pytest.mark.parametrize(
    ("files", "crashes", "action"),
    [
        (1, 1, RecoveryAction.REPUBLISH),
        (1, 2, RecoveryAction.REPUBLISH),
        (1, 3, RecoveryAction.FAIL),
        (1, 4, RecoveryAction.FAIL),
        (2, 1, RecoveryAction.SPLIT),
        (9, 9, RecoveryAction.SPLIT),
    ],
)
def test_a_crash_splits_many_files_and_at_last_fails_a_lone_file(files: int, crashes: int, action: RecoveryAction) -> None:
    assert action_after_crash(crashes, files, crashes_max=3) is action


@pytest.mark.parametrize(
    ("state", "has_outcome", "expected"),
    [
        (None, False, ParcelState.CLAIMED),
        (None, True, ParcelState.FINISHED),
        (LeaseState.QUEUED, False, ParcelState.QUEUED),
        (LeaseState.RUNNING, False, ParcelState.RUNNING),
        (LeaseState.FINISHED, False, ParcelState.FINISHED),
        (LeaseState.FILED, True, ParcelState.FINISHED),
    ],
)
def test_the_state_follows_from_lease_and_outcome(state: LeaseState | None, has_outcome: bool, expected: ParcelState) -> None:
    assert parcel_state(state and make_lease(state), has_outcome=has_outcome) is expected


@pytest.mark.parametrize(("attempt", "crashes", "retries"), [(0, 0, 0), (1, 0, 1), (3, 2, 1), (1, 2, 0)])
def test_an_attempt_in_which_the_worker_died_uses_up_no_retry(attempt: int, crashes: int, retries: int) -> None:
    assert make_lease(LeaseState.RUNNING, attempt=attempt, crashes=crashes).attempts_used == retries


def test_a_parcel_whose_split_was_interrupted_is_split() -> None:
    assert action_for(make_lease(LeaseState.QUEUED, crashes=1), files=3) is RecoveryAction.SPLIT
    assert action_for(make_lease(LeaseState.QUEUED, crashes=1), files=1) is RecoveryAction.REPUBLISH
    assert action_for(make_lease(LeaseState.QUEUED, crashes=0), files=3) is RecoveryAction.REPUBLISH


def test_the_sweeps_line_that_counts_its_actions_is_read_back() -> None:
    """A key such as ``file`` with a number for its value is no line of inboxd's."""
    counts = {str(action): 1 for action in RecoveryAction}

    record = parse(line(events.SWEEP_DONE, NOON, **counts))

    assert record is not None
    assert record.fields.items() >= counts.items()


@pytest.mark.parametrize(
    ("age", "dataset_age", "action"),
    [
        (-86_400.0, OLD, RecoveryAction.REPUBLISH),
        (-0.5, OLD, RecoveryAction.LEAVE),
        (OLD, -86_400.0, RecoveryAction.REPUBLISH),
    ],
)
def test_a_parcel_from_before_the_clock_was_set_back_counts_as_old(
    age: float, dataset_age: float, action: RecoveryAction
) -> None:
    parcel = ClaimedParcel(PARCEL, age, 1, has_outcome=False)

    assert choose_actions([parcel], {}, frozenset(), dataset_age, GracePeriods(GRACE, RENEWAL)) == {PARCEL: action}
