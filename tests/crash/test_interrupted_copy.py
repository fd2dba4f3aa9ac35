"""A claim by copy that dies at any operation is completed by the next claim or by the sweep: no file is claimed twice."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from support.crash.crash_points import record_crash_point
from support.crash.fuse import Fuse, ProcessDied
from support.crash.world import World
from support.disk.disks import TwoDisks

from inboxd.fs.syscalls import Disk
from inboxd.tasks.sweeps import missed

FILES = {b"a": b"good", b"x/b": b"good, too"}
ORDERS = ("claim first", "sweep first", "sweep and work first")


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed, "HEAD_START_SECONDS", 0.0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("claim", ["rename", "copy"])
def test_a_file_whose_claim_died_is_filed_once(claim: str, order: str, tmp_path: Path) -> None:
    disk = TwoDisks() if claim == "rename" else Disk()  # for claims only: all else is on one disk
    for point in itertools.count(1):
        world = World(tmp_path / str(point), Disk(), claim=claim)
        for path, content in FILES.items():
            world.spool.put(b"inbox/" + path, content)
        world.remember_state()
        fuse = Fuse(disk, point)
        try:
            watch(world, fuse)
        except ProcessDied:
            world.mark_programs_dead()
        world.leases.now += 1000.0
        if order == "claim first":
            watch(world, disk)
        elif order == "sweep first":
            world.program().stale()
        else:
            world.program().stale()
            world.program().work()

        watch(world, disk)
        world.program().recover()
        world.program().settle()

        world.assert_all_is_filed()
        assert world.spool.files("done") == FILES
        if not fuse.blown:
            break
        record_crash_point(f"interrupted copy, {order}", "dies", point, "copy")

    assert point > 30


def watch(world: World, disk: Disk) -> None:
    """Claim and publish the files in inbox/, on this disk."""
    program = world.program()
    program.context = dataclasses.replace(program.context, disk=disk)
    program.watch()
