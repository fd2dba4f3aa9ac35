"""Scenarios of a file's life across all programs, on disk and in Redis: the state before, the program that meets a fault."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from billiard.exceptions import WorkerLostError
from celery.states import FAILURE
from support.crash.programs import STEP_SECONDS, Program
from support.crash.world import World, dead_process_token
from support.disk.disks import LinkingDisk, TwoDisks

from inboxd.broker.changes import FiledFile
from inboxd.fs.syscalls import Disk
from inboxd.spool.error_note import note_name
from inboxd.spool.layout import new_parcel_id

GOOD, LARGE, RAISES, REJECTED = b"good", b"good, and large: " + b"x" * 64, b"raise", b"reject"
FOUR_FILES = {b"a": GOOD, b"x/b": LARGE, b"x/y/c": RAISES, b"\xff\n": REJECTED}

Act = Callable[[Program], object]


@dataclass(frozen=True)
class Scenario:
    """One scenario: ``before`` makes the state in which ``act``, the program that meets the fault, begins."""

    name: str
    before: Callable[[World], object]
    act: Act
    disk: Disk = Disk()  # noqa: RUF009 - a Disk has no state

    def arrange(self, root: Path) -> World:
        """Return a world in the state before ``act``."""
        world = World(root, self.disk)
        self.before(world)
        world.leases.now += 1.0
        world.remember_state()
        return world


def work_once(program: Program) -> None:
    program.work(messages_max=1)


def drop_files(world: World) -> None:
    world.leases.report_seconds_per_file("drop", 0.001)
    for path, content in FOUR_FILES.items():
        world.spool.put(b"inbox/" + path, content)
    world.spool.where(b"inbox/link").symlink_to("/etc/passwd")


def published_parcel(files: dict[bytes, bytes]) -> Callable[[World], object]:
    return lambda world: world.publish(files)


def handled_parcel(files: dict[bytes, bytes], existing: dict[bytes, bytes] | None = None) -> Callable[[World], None]:
    """Return a function that publishes and handles a parcel, and writes the ``existing`` files."""

    def before(world: World) -> None:
        world.publish(files)
        world.program().work(messages_max=1)
        for path, content in (existing or {}).items():
            world.spool.put(path, content)

    return before


def changed_file(world: World) -> None:
    """Leave a handled parcel whose file was written to after it was packed."""
    handled_parcel({b"x/a": GOOD})(world)
    (place,) = (world.spool.root / "claimed").glob("*/x/a")
    place.write_bytes(place.read_bytes() + b", and more")


def late_write(world: World) -> None:
    """Leave a file in done/ that was written to after it was filed, and that the next sweep looks at."""
    place = world.spool.put(b"done/x/a (2)", GOOD + b", and more")
    world.changes.files.append(FiledFile(b"x/a", b"x/a (2)", len(GOOD), 0, place.stat().st_ino, place.stat().st_uid, 0.0))


def late_write_too_often(world: World) -> None:
    """Leave a file in done/ that was written to after it was filed, once more than is allowed."""
    place = world.spool.put(b"done/x/a", REJECTED + b", and more")
    world.changes.files.append(FiledFile(b"x/a", b"x/a", len(REJECTED), 0, place.stat().st_ino, place.stat().st_uid, 0.0))
    world.changes.counts["drop", b"x/a"] = world.inbox.changes_max


def handler_output(content: bytes) -> Callable[[World], None]:
    """Return a function that leaves a handled parcel, with a file that the handler wrote beside its file."""

    def before(world: World) -> None:
        handled_parcel({b"x/a": content})(world)
        (place,) = (world.spool.root / "claimed").glob("*/x/a")
        place.with_name("a.out").write_bytes(content + b", its output")

    return before


def duplicate_message(world: World) -> None:
    """Queue a duplicate of a parcel's message after the parcel was handled and before its callback."""
    handled_parcel({b"a": GOOD})(world)
    world.queue.messages.insert(0, replace(world.queue.sent[0]))
    world.leases.now += STEP_SECONDS


def parcel_on_last_attempt(world: World) -> None:
    world.publish({b"a": RAISES})
    world.program().work(messages_max=1)
    assert [message.retries for message in world.queue.messages] == [1]


def parcel_of_lost_worker(*paths: bytes, crashes: int = 0) -> Callable[[World], None]:
    """Return a function that leaves the parcel of a dead worker, which Celery has reported as a failure."""

    def before(world: World) -> None:
        parcel = parcel_of_dead_worker(world, *paths, crashes=crashes)
        world.results.store_result(parcel, FAILURE, WorkerLostError())
        world.queue.send_task("inboxd.failed", args=["drop", parcel])

    return before


def parcel_of_dead_worker(world: World, *paths: bytes, crashes: int = 0) -> str:
    prefix = b"raise: killed its workers, " if crashes else b"good, "
    parcel = world.publish({path: prefix + path for path in paths})
    world.queue.messages.pop()
    world.leases.start(parcel, dead_process_token("here"), 1.0)
    world.leases.records[parcel].crashes = crashes
    return parcel


def parcel_without_callback(files: dict[bytes, bytes]) -> Callable[[World], None]:
    """Return a function that leaves a parcel whose outcome is stored and whose callback was lost."""

    def before(world: World) -> None:
        handled_parcel(files)(world)
        world.queue.messages.clear()
        world.leases.now += STEP_SECONDS

    return before


def parcel_without_message(world: World) -> None:
    world.publish({b"a": GOOD})
    world.queue.messages.clear()
    world.leases.now += STEP_SECONDS


def parcel_queued_too_long(world: World) -> None:
    world.publish({b"a": GOOD})
    world.leases.now += STEP_SECONDS


def parcel_marked_filed(world: World) -> None:
    world.leases.mark_filed(world.claim({b"x/a": GOOD}))


def empty_parcel(world: World) -> None:
    """Leave a parcel without files, and another one with a file."""
    world.claim({b"a": GOOD})
    (world.spool.root / "claimed" / new_parcel_id() / "x").mkdir(parents=True)


def sweep_during_write(program: Program) -> None:
    """Sweep while a claimed file is open for writing: the sweep moves it back to inbox/."""
    (parcel,) = (program.world.spool.root / "claimed").iterdir()
    with (parcel / "a").open("ab"):
        program.stale()


def requeued_file(world: World) -> None:
    world.spool.put(b"inbox/a.pdf", RAISES)
    world.program().watch()
    world.program().settle()
    failed = world.spool.where(b"failed/a.pdf")
    assert failed.with_name(os.fsdecode(note_name(b"a.pdf"))).exists()
    failed.rename(world.spool.where(b"inbox/a.pdf"))


def watch_and_work(program: Program) -> None:
    program.watch()
    program.work()


IN_DONE = {b"done/a.pdf": b"good, filed earlier"}
IN_FAILED = {b"failed/a.pdf": b"raise, filed earlier", b"failed/a.pdf.error.txt": b"a person's note"}

SCENARIOS = (
    Scenario("watch: scan, claim, pack, publish", drop_files, Program.watch),
    Scenario("work: a file inline", published_parcel({b"a": GOOD}), work_once),
    Scenario("work: a file by reference", published_parcel({b"x/a": LARGE}), work_once),
    Scenario("work: a four-file parcel", published_parcel(FOUR_FILES), work_once),
    Scenario("work: the handler raises", published_parcel({b"a": RAISES}), work_once),
    Scenario("work: the handler raises on its last attempt", parcel_on_last_attempt, work_once),
    Scenario("work: the handler rejects the file", published_parcel({b"x/a": REJECTED}), work_once),
    Scenario("success: done", handled_parcel({b"a.pdf": GOOD}), work_once),
    Scenario("success: a four-file parcel, one split off", handled_parcel(FOUR_FILES), work_once),
    Scenario("success: a duplicate message comes first", duplicate_message, Program.work),
    Scenario("success: the file was changed", changed_file, work_once),
    Scenario("success: the file was changed, other disks", changed_file, work_once, LinkingDisk()),
    Scenario("sweep: a file was written to in done/", late_write, Program.stale),
    Scenario("sweep: a file was written to in done/", late_write, Program.stale, LinkingDisk()),
    Scenario("sweep: written to in done/ too often", late_write_too_often, Program.stale),
    Scenario("sweep: written to in done/ too often", late_write_too_often, Program.stale, LinkingDisk()),
    Scenario("success: the handler left an output", handler_output(GOOD), work_once),
    Scenario("failure: the handler left an output", handler_output(REJECTED), work_once),
    Scenario("failure: failed", handled_parcel({b"x/a.pdf": REJECTED}), work_once),
    Scenario("failure: its name exists in failed/", handled_parcel({b"a.pdf": REJECTED}, IN_FAILED), work_once),
    Scenario("failure: a worker died, one-file parcel", parcel_of_lost_worker(b"a"), work_once),
    Scenario("failure: a worker died, two-file parcel", parcel_of_lost_worker(b"a", b"x/b"), work_once),
    Scenario("failure: a third worker died", parcel_of_lost_worker(b"a", crashes=2), work_once),
    Scenario("sweep: missed", drop_files, Program.missed),
    Scenario("sweep: stale, its callback was lost", parcel_without_callback({b"x/a.pdf": GOOD, b"b": RAISES}), Program.stale),
    Scenario("sweep: stale, its error callback was lost", parcel_without_callback({b"a": REJECTED}), Program.stale),
    Scenario("sweep: stale, its message was lost", parcel_without_message, Program.stale),
    Scenario("sweep: stale, never published", lambda world: world.claim({b"x/a": GOOD}), Program.stale),
    Scenario("sweep: stale, still queued", parcel_queued_too_long, Program.stale),
    Scenario("sweep: stale, its worker died", lambda world: parcel_of_dead_worker(world, b"a", b"x/b"), Program.stale),
    Scenario("sweep: stale, its lease says filed", parcel_marked_filed, Program.stale),
    Scenario("sweep: stale, an empty parcel", empty_parcel, Program.stale),
    Scenario("sweep: stale, open for writing", lambda world: world.claim({b"a": GOOD}), sweep_during_write),
    Scenario("requeued by hand, failed again", requeued_file, watch_and_work),
    *(Scenario("success: its name exists in done/", handled_parcel({b"a.pdf": GOOD}, IN_DONE), work_once, disk)
      for disk in (Disk(), LinkingDisk(), TwoDisks())),
    *(Scenario("failure: failed, other disks", handled_parcel({b"x/a.pdf": REJECTED}), work_once, disk)
      for disk in (LinkingDisk(), TwoDisks())),
)  # fmt: skip
