"""Each fault at each operation of retention: it deletes expired files only, and the next run completes it."""

import itertools
import time
from collections import Counter
from pathlib import Path

import pytest
from support.crash.crash_points import record_crash_point
from support.crash.faults import FAULTS, Fault
from support.crash.programs import Program
from support.crash.spool_scenarios import P, note
from support.crash.world import World
from support.disk.spools import TEMP_PREFIX

from inboxd.spool.retention import LEFTOVER_SECONDS, delete_expired

EXPIRED = {b"done/a": b"A", b"done/x/b": b"B", b"failed/c.pdf": b"C", b"failed/c.pdf.error.txt": note(b"c.pdf", "0" * 28)}
UNAFFECTED = {b"inbox/d": b"D", P + b"x/e": b"E"}
LEFTOVERS = {
    b"done/x/" + TEMP_PREFIX + b"0123456789abcdef.part": b"incomplete copy",
    b"failed/" + TEMP_PREFIX + b"0123456789abcdef.note": b"incomplete note",
    b"failed/missing.pdf.error.txt": note(b"missing.pdf", "1" * 28),
}
SHORTEST_DAYS = 1e-12


def put(world: World, files: dict[bytes, bytes]) -> None:
    for path, content in files.items():
        world.spool.put(path, content)


def delete_leftovers(program: Program) -> None:
    """Run retention at a time when the leftovers are old, without a retention period for filed files."""
    disk, now = program.context.disk, time.time() + 2 * LEFTOVER_SECONDS
    with program.world.spool.folders() as folders:
        list(delete_expired(disk, folders.done, now, 0.0))
        list(delete_expired(disk, folders.failed, now, 0.0, has_notes=True))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_after_a_fault_the_next_expiry_completes_without_waiting(fault: Fault, tmp_path: Path) -> None:
    for point in itertools.count(1):
        world = World(tmp_path / str(point), keep_done_days=SHORTEST_DAYS, keep_failed_days=SHORTEST_DAYS)
        put(world, {**EXPIRED, **UNAFFECTED})
        has_point = world.run_with_fault(Program.expired, fault, point)
        files = world.spool.files()
        assert files.items() >= UNAFFECTED.items()
        assert max(Counter(files.values()).values()) == 1

        world.program().expired()

        assert world.spool.files() == UNAFFECTED
        if not has_point:
            break
        record_crash_point("sweep: expired", fault.name, point)
    assert point > 2 or fault.only  # the sweep lock is acquired and released


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.on_disk], ids=lambda fault: fault.name)
def test_deleting_leftovers_with_a_fault_deletes_no_users_file(fault: Fault, tmp_path: Path) -> None:
    for point in itertools.count(1):
        world = World(tmp_path / str(point))
        put(world, {**EXPIRED, **UNAFFECTED, **LEFTOVERS})
        has_point = world.run_with_fault(delete_leftovers, fault, point)
        assert world.spool.files().items() >= {**EXPIRED, **UNAFFECTED}.items()

        delete_leftovers(world.program())

        assert world.spool.files() == {**EXPIRED, **UNAFFECTED}
        if not has_point:
            break
        record_crash_point("retention: leftovers", fault.name, point)
    assert point > 4 or not fault.kills
