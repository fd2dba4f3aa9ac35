"""Retention at every operation, under every fault: it deletes what is due and nothing else, and the next one ends it."""

import itertools
import time
from collections import Counter
from pathlib import Path

import pytest
from support.crash.crash_points import walked
from support.crash.faults import FAULTS, Fault
from support.crash.programs import Program
from support.crash.spool_scenarios import P, note
from support.crash.world import World
from support.disk.spools import TEMP_PREFIX

from inboxd.spool.retention import LEFTOVER_SECONDS, delete_expired

OLD = {b"done/a": b"A", b"done/x/b": b"B", b"failed/c.pdf": b"C", b"failed/c.pdf.error.txt": note(b"c.pdf", "0" * 28)}
KEPT = {b"inbox/d": b"D", P + b"x/e": b"E"}
LEFT = {
    b"done/x/" + TEMP_PREFIX + b"0123456789abcdef.part": b"half a copy",
    b"failed/" + TEMP_PREFIX + b"0123456789abcdef.note": b"half a note",
    b"failed/gone.pdf.error.txt": note(b"gone.pdf", "1" * 28),
}
A_MOMENT_DAYS = 1e-12


def put(world: World, files: dict[bytes, bytes]) -> None:
    for path, content in files.items():
        world.spool.put(path, content)


def tidy(program: Program) -> None:
    """Remove leftovers, as on a day when they are old; what was filed is kept."""
    disk, later = program.context.disk, time.time() + 2 * LEFTOVER_SECONDS
    with program.world.spool.folders() as folders:
        list(delete_expired(disk, folders.done, later, 0.0))
        list(delete_expired(disk, folders.failed, later, 0.0, has_notes=True))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_an_expiry_that_meets_trouble_is_ended_by_the_next_which_need_not_wait(fault: Fault, tmp_path: Path) -> None:
    for point in itertools.count(1):
        world = World(tmp_path / str(point), keep_done_days=A_MOMENT_DAYS, keep_failed_days=A_MOMENT_DAYS)
        put(world, {**OLD, **KEPT})
        met = world.meet(Program.expired, fault, point)
        lying = world.spool.files()
        assert lying.items() >= KEPT.items()
        assert max(Counter(lying.values()).values()) == 1

        world.program().expired()

        assert world.spool.files() == KEPT
        if not met:
            break
        walked("sweep: expired", fault.name, point)
    assert point > 2 or fault.only  # a turn is taken, and given back


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.on_disk], ids=lambda fault: fault.name)
def test_tidying_that_meets_trouble_removes_no_file_of_a_persons(fault: Fault, tmp_path: Path) -> None:
    for point in itertools.count(1):
        world = World(tmp_path / str(point))
        put(world, {**OLD, **KEPT, **LEFT})
        met = world.meet(tidy, fault, point)
        assert world.spool.files().items() >= {**OLD, **KEPT}.items()

        tidy(world.program())

        assert world.spool.files() == {**OLD, **KEPT}
        if not met:
            break
        walked("retention: leftovers", fault.name, point)
    assert point > 4 or not fault.kills
