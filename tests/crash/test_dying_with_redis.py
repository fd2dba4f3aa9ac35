"""Each fault at each disk and Redis operation of each program: recovery loses nothing, and a worker completes the work."""

import itertools
from pathlib import Path

import pytest
from support.crash.crash_points import record_crash_point
from support.crash.faults import DIES, FAULTS, Fault
from support.crash.programs import Program
from support.crash.scenarios import SCENARIOS, Scenario
from support.disk.disks import kind_of

from inboxd.tasks.processing import process_parcel
from inboxd.tasks.sweeps import missed

POINTS_MIN = 4
"""Minimum operations of a scenario: with fewer, its action was not executed."""

STRIDE = 37
"""Operations by which the second fault moves through the recovery from one point to the next."""

CASES = [(scenario, fault) for scenario in SCENARIOS for fault in FAULTS]


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the waits for files to settle and for Redis to recover."""
    monkeypatch.setattr(missed, "HEAD_START_SECONDS", 0.0)
    monkeypatch.setattr(process_parcel, "OUTAGE_CHECK_SECONDS", 0.0)


def case_id(value: Scenario | Fault) -> str:
    return f"{value.name}, {kind_of(value.disk)}" if isinstance(value, Scenario) else value.name


def recover_and_settle(program: Program) -> None:
    program.recover()
    program.settle()


@pytest.mark.parametrize(("scenario", "fault"), CASES, ids=case_id)
def test_after_a_fault_at_any_operation_each_file_is_filed_once(scenario: Scenario, fault: Fault, tmp_path: Path) -> None:
    for point in itertools.count(1):
        world = scenario.arrange(tmp_path / str(point))
        has_point = world.run_with_fault(scenario.act, fault, point)
        world.assert_nothing_is_lost()

        world.program().recover()

        world.assert_nothing_is_lost()
        assert world.spool.files("inbox") == {}
        world.program().settle()
        world.assert_all_is_filed()
        world.assert_copies_change_nothing()
        if not has_point:
            break
        record_crash_point(scenario.name, fault.name, point, kind_of(scenario.disk))
    assert point > POINTS_MIN or not fault.kills


@pytest.mark.parametrize("scenario", SCENARIOS, ids=case_id)
def test_after_a_fault_during_a_recovery_the_next_recovery_completes_it(scenario: Scenario, tmp_path: Path) -> None:
    operations = 0
    for point in itertools.count(1):
        world = scenario.arrange(tmp_path / str(point))
        if not world.run_with_fault(scenario.act, DIES, point):
            break
        if not operations:  # the first recovery has no fault: it counts the operations
            program = world.program(DIES)
            recover_and_settle(program)
            operations = program.fuse.count
            continue
        if world.run_with_fault(recover_and_settle, FAULTS[point % len(FAULTS)], 1 + point * STRIDE % operations):
            record_crash_point(scenario.name, "a second fault", point, kind_of(scenario.disk))
        world.assert_nothing_is_lost()

        recover_and_settle(world.program())

        world.assert_all_is_filed()
