"""Every fault at every operation of every program, on disk and in Redis: sweeps alone lose nothing, and a worker ends it."""

import itertools
import time
from pathlib import Path

import pytest
from support.crash.crash_points import walked
from support.crash.faults import DIES, FAULTS, Fault
from support.crash.programs import Program
from support.crash.scenarios import LIVES, Life
from support.disk.disks import kind_of

from inboxd.tasks.sweeps import missed

POINTS_MIN = 4
"""A life with fewer operations than this has not been lived at all."""

STRIDE = 37
"""The second fault wanders through the recovery by so many operations a time."""


CASES = [(life, fault) for life in LIVES for fault in FAULTS]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing: neither for files to ripen, nor for Redis to come back."""
    monkeypatch.setattr(missed, "HEAD_START_SECONDS", 0.0)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)


def named(value: Life | Fault) -> str:
    return f"{value.name}, {kind_of(value.disk)}" if isinstance(value, Life) else value.name


def recover_and_settle(program: Program) -> None:
    program.recover()
    program.settle()


@pytest.mark.parametrize(("life", "fault"), CASES, ids=named)
def test_whatever_happens_at_any_operation_every_file_is_filed_once(life: Life, fault: Fault, tmp_path: Path) -> None:
    for point in itertools.count(1):
        world = life.arrange(tmp_path / str(point))
        met = world.meet(life.act, fault, point)
        world.assert_nothing_is_lost()

        world.program().recover()

        world.assert_nothing_is_lost()
        assert world.spool.files("inbox") == {}
        world.program().settle()
        world.assert_all_is_filed()
        world.assert_copies_change_nothing()
        if not met:
            break
        walked(life.name, fault.name, point, kind_of(life.disk))
    assert point > POINTS_MIN or not fault.kills


@pytest.mark.parametrize("life", LIVES, ids=named)
def test_whatever_happens_to_the_recovery_from_a_death_the_next_one_ends_it(life: Life, tmp_path: Path) -> None:
    span = 0
    for point in itertools.count(1):
        world = life.arrange(tmp_path / str(point))
        if not world.meet(life.act, DIES, point):
            break
        if not span:  # the first recovery goes undisturbed, to tell how long one is
            program = world.program(DIES)
            recover_and_settle(program)
            span = program.fuse.count
            continue
        if world.meet(recover_and_settle, FAULTS[point % len(FAULTS)], 1 + point * STRIDE % span):
            walked(life.name, "a second fault", point, kind_of(life.disk))
        world.assert_nothing_is_lost()

        recover_and_settle(world.program())

        world.assert_all_is_filed()
