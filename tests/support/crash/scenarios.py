"""The ways of a file through all programs, over disk and Redis: what is there before, and the program that meets the fault."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from billiard.exceptions import WorkerLostError
from celery.states import FAILURE
from support.crash.programs import STEP_SECONDS, Program
from support.crash.world import World, dead
from support.disk.disks import LinkingDisk, TwoDisks

from inboxd.fs.syscalls import Disk
from inboxd.spool.error_note import note_name
from inboxd.spool.layout import new_parcel_id

GOOD, LARGE, RAISES, REJECTED = b"good", b"good, and large: " + b"x" * 64, b"raise", b"reject"
COMPANY = {b"a": GOOD, b"x/b": LARGE, b"x/y/c": RAISES, b"\xff\n": REJECTED}

Act = Callable[[Program], object]


@dataclass(frozen=True)
class Life:
    """What there is before, and the act; on a disk that renames, or another one."""

    name: str
    before: Callable[[World], object]
    act: Act
    disk: Disk = Disk()  # noqa: RUF009 - it has no state

    def arrange(self, root: Path) -> World:
        """Make a world in which this life begins."""
        world = World(root, self.disk)
        self.before(world)
        world.leases.now += 1.0
        world.begin()
        return world


def one_message(program: Program) -> None:
    program.work(messages=1)


def drop(world: World) -> None:
    world.leases.report_seconds_per_file("drop", 0.001)
    for path, content in COMPANY.items():
        world.spool.put(b"inbox/" + path, content)
    world.spool.where(b"inbox/link").symlink_to("/etc/passwd")


def sent(files: dict[bytes, bytes]) -> Callable[[World], object]:
    return lambda world: world.publish(files)


def worked_on(files: dict[bytes, bytes], taken: dict[bytes, bytes] | None = None) -> Callable[[World], None]:
    """Return what leads up to a callback; other files have taken these places."""

    def before(world: World) -> None:
        world.publish(files)
        world.program().work(messages=1)
        for path, content in (taken or {}).items():
            world.spool.put(path, content)

    return before


def overtaken(world: World) -> None:
    """Let a copy of a message arrive when its work is over, and its callback still on the way."""
    worked_on({b"a": GOOD})(world)
    world.mail.queue.insert(0, replace(world.mail.sent[0]))
    world.leases.now += STEP_SECONDS


def last_try(world: World) -> None:
    world.publish({b"a": RAISES})
    world.program().work(messages=1)
    assert [message.retries for message in world.mail.queue] == [1]


def worker_lost(*paths: bytes, crashes: int = 0) -> Callable[[World], None]:
    """Return what a worker's death leaves, and Celery's word of it."""

    def before(world: World) -> None:
        parcel = killed(world, *paths, crashes=crashes)
        world.results.store_result(parcel, FAILURE, WorkerLostError())
        world.mail.send_task("inboxd.failed", args=["drop", parcel])

    return before


def killed(world: World, *paths: bytes, crashes: int = 0) -> str:
    word = b"raise: ended its workers, " if crashes else b"good, "
    parcel = world.publish({path: word + path for path in paths})
    world.mail.queue.pop()
    world.leases.start(parcel, dead("here"), 1.0)
    world.leases.records[parcel].crashes = crashes
    return parcel


def lost_callback(files: dict[bytes, bytes]) -> Callable[[World], None]:
    """Return what a lost callback leaves: a parcel whose outcome is stored."""

    def before(world: World) -> None:
        worked_on(files)(world)
        world.mail.queue.clear()
        world.leases.now += STEP_SECONDS

    return before


def lost_message(world: World) -> None:
    world.publish({b"a": GOOD})
    world.mail.queue.clear()
    world.leases.now += STEP_SECONDS


def queued_for_long(world: World) -> None:
    world.publish({b"a": GOOD})
    world.leases.now += STEP_SECONDS


def left_over(world: World) -> None:
    world.leases.mark_filed(world.claim({b"x/a": GOOD}))


def empty_parcel(world: World) -> None:
    """Leave a parcel in which nothing is, and a file that says whether all is well."""
    world.claim({b"a": GOOD})
    (world.spool.root / "claimed" / new_parcel_id() / "x").mkdir(parents=True)


def stale_while_written(program: Program) -> None:
    """Sweep while somebody has a claimed file open for writing: it goes back to the inbox."""
    (parcel,) = (program.world.spool.root / "claimed").iterdir()
    with (parcel / "a").open("ab"):
        program.stale()


def failed_once(world: World) -> None:
    world.spool.put(b"inbox/a.pdf", RAISES)
    world.program().watch()
    world.program().settle()
    failed = world.spool.where(b"failed/a.pdf")
    assert failed.with_name(os.fsdecode(note_name(b"a.pdf"))).exists()
    failed.rename(world.spool.where(b"inbox/a.pdf"))


def second_life(program: Program) -> None:
    program.watch()
    program.work()


TAKEN = {b"done/a.pdf": b"good, of old"}
FAILED_OF_OLD = {b"failed/a.pdf": b"raise, of old", b"failed/a.pdf.error.txt": b"a person's note"}
LOSING = {b"x/a.pdf": REJECTED}

LIVES = (
    Life("watch: scan, claim, pack, publish", drop, Program.watch),
    Life("work: a file inline", sent({b"a": GOOD}), one_message),
    Life("work: a file by reference", sent({b"x/a": LARGE}), one_message),
    Life("work: four in company", sent(COMPANY), one_message),
    Life("work: it raises, and is retried", sent({b"a": RAISES}), one_message),
    Life("work: it raises, and has no try left", last_try, one_message),
    Life("work: it is rejected", sent({b"x/a": REJECTED}), one_message),
    Life("success: done", worked_on({b"a.pdf": GOOD}), one_message),
    Life("success: four in company, one split off", worked_on(COMPANY), one_message),
    Life("success: a copy of its message comes first", overtaken, Program.work),
    Life("failure: failed", worked_on({b"x/a.pdf": REJECTED}), one_message),
    Life("failure: its name is taken", worked_on({b"a.pdf": REJECTED}, FAILED_OF_OLD), one_message),
    Life("failure: a worker died over one", worker_lost(b"a"), one_message),
    Life("failure: a worker died over two", worker_lost(b"a", b"x/b"), one_message),
    Life("failure: a third worker died", worker_lost(b"a", crashes=2), one_message),
    Life("sweep: missed", drop, Program.missed),
    Life("sweep: stale, its callback was lost", lost_callback({b"x/a.pdf": GOOD, b"b": RAISES}), Program.stale),
    Life("sweep: stale, its error callback was lost", lost_callback({b"a": REJECTED}), Program.stale),
    Life("sweep: stale, its message was lost", lost_message, Program.stale),
    Life("sweep: stale, never published", lambda world: world.claim({b"x/a": GOOD}), Program.stale),
    Life("sweep: stale, still queued", queued_for_long, Program.stale),
    Life("sweep: stale, its worker died", lambda world: killed(world, b"a", b"x/b"), Program.stale),
    Life("sweep: stale, left over", left_over, Program.stale),
    Life("sweep: stale, an empty parcel", empty_parcel, Program.stale),
    Life("sweep: stale, opened for writing again", lambda world: world.claim({b"a": GOOD}), stale_while_written),
    Life("put back by hand, failed again", failed_once, second_life),
    *(Life("success: its name is taken", worked_on({b"a.pdf": GOOD}, TAKEN), one_message, disk)
      for disk in (Disk(), LinkingDisk(), TwoDisks())),
    *(Life("failure: failed, other disks", worked_on(LOSING), one_message, disk) for disk in (LinkingDisk(), TwoDisks())),
)  # fmt: skip
