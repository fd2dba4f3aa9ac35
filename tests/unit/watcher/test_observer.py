"""Watching on the real kernel: which change brings which hint, how soon, and what is left at the end."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import pytest
from support.disk.spools import Spool
from support.waiting import DEADLINE_SECONDS, eventually
from watchdog.events import FileClosedEvent
from watchdog.observers.api import EventDispatcher
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent

from inboxd.watcher.hints import Hint, HintKind, HintQueue
from inboxd.watcher.observer import HintHandler, Observer

ARRIVED = Hint(HintKind.ARRIVED, "drop")
RETURNED = Hint(HintKind.PARCEL_RETURNED, "drop")
LOST = Hint(HintKind.ROOT_LOST, "drop")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


@pytest.fixture
def hints() -> HintQueue:
    return HintQueue()


@pytest.fixture
def observer(hints: HintQueue) -> Iterator[Observer]:
    made = Observer(hints)
    yield made
    made.stop()


def first(hints: HintQueue) -> set[Hint]:
    """Wait for the first hints."""
    return hints.wait(DEADLINE_SECONDS)


def comes(hints: HintQueue, wanted: Hint) -> bool:
    """Wait until this hint comes."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if wanted in hints.wait(left):
            return True
    return False


def close_after_write(spool: Spool) -> None:
    spool.put(b"inbox/new")


def write_to_what_is_there(spool: Spool) -> None:
    with spool.where(b"inbox/old").open("ab") as file:
        file.write(b"more")


def rename_in(spool: Spool) -> None:
    spool.where(b"outside").rename(spool.where(b"inbox/new"))


def rename_within(spool: Spool) -> None:
    spool.where(b"inbox/old").rename(spool.where(b"inbox/new"))


def make_a_folder(spool: Spool) -> None:
    spool.where(b"inbox/sub").mkdir()


def make_a_hard_link(spool: Spool) -> None:
    spool.where(b"inbox/new").hardlink_to(spool.where(b"outside"))


def make_a_symbolic_link(spool: Spool) -> None:
    spool.where(b"inbox/new").symlink_to("/")


def make_a_named_pipe(spool: Spool) -> None:
    os.mkfifo(spool.where(b"inbox/new"))


@pytest.mark.parametrize(
    "change",
    [
        close_after_write, write_to_what_is_there, rename_in, rename_within, make_a_folder, make_a_hard_link,
        make_a_symbolic_link, make_a_named_pipe,
    ],
)  # fmt: skip
def test_what_arrives_gives_a_hint(change: Callable[[Spool], None], spool: Spool, observer: Observer, hints: HintQueue) -> None:
    spool.put(b"inbox/old")
    spool.put(b"outside")
    observer.watch("drop", PurePath(spool.root))

    change(spool)

    assert first(hints) == {ARRIVED}


def test_a_parcel_that_is_filed_gives_a_hint(spool: Spool, observer: Observer, hints: HintQueue) -> None:
    parcel = spool.claimed(b"a")
    observer.watch("drop", PurePath(spool.root))

    shutil.rmtree(spool.root / "claimed" / parcel)

    assert first(hints) == {RETURNED}


def test_a_claim_gives_no_hint(spool: Spool, observer: Observer, hints: HintQueue) -> None:
    parcel = spool.claimed(b"a")
    spool.put(b"inbox/b")
    observer.watch("drop", PurePath(spool.root))

    spool.where(b"inbox/b").rename(spool.root / "claimed" / parcel / "b")
    (spool.root / "claimed" / ("0" * 28)).mkdir()
    shutil.rmtree(spool.root / "claimed" / parcel)  # the first that is worth a hint

    assert first(hints) == {RETURNED}


def test_a_claim_does_not_hold_back_the_next_files_hint(spool: Spool, observer: Observer, hints: HintQueue) -> None:
    observer.watch("drop", PurePath(spool.root))

    seconds = []
    for number in range(3):
        old = spool.put(b"inbox/old-%d" % number)
        assert comes(hints, ARRIVED)
        old.rename(spool.root / "claimed" / old.name)
        begun = time.monotonic()
        spool.put(b"inbox/new-%d" % number)
        assert comes(hints, ARRIVED)
        seconds.append(time.monotonic() - begun)

    assert min(seconds) < 0.3  # watchdog's own emitter takes 0.5 s each time


@pytest.mark.parametrize("folder", ["", "inbox"])
def test_a_folder_that_is_moved_or_deleted_is_told(folder: str, tmp_path: Path, observer: Observer, hints: HintQueue) -> None:
    for number, lose in enumerate((lambda place: place.rename(tmp_path / "away"), shutil.rmtree)):
        spool = Spool.make(tmp_path / str(number))
        observer.watch("drop", PurePath(spool.root))

        lose(spool.root / folder / ("inbox" if lose is not shutil.rmtree and not folder else ""))

        assert comes(hints, LOST)


def test_a_deleted_claimed_folder_is_told(spool: Spool, observer: Observer, hints: HintQueue) -> None:
    observer.watch("drop", PurePath(spool.root))

    (spool.root / "claimed").rmdir()

    assert comes(hints, LOST)


def test_events_that_the_kernel_has_dropped_are_told_to_every_inbox(
    tmp_path: Path, observer: Observer, hints: HintQueue
) -> None:
    for name in ("a", "b"):
        observer.watch(name, PurePath(Spool.make(tmp_path / name).root))

    observer.backend.reader.handle_event(InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b""))

    assert comes(hints, Hint(HintKind.OVERFLOWED, "a")) or comes(hints, Hint(HintKind.OVERFLOWED, "b"))


def test_hints_name_the_inbox_that_they_are_about(tmp_path: Path, observer: Observer, hints: HintQueue) -> None:
    spools = {name: Spool.make(tmp_path / name) for name in ("a", "b")}
    for name, spool in spools.items():
        observer.watch(name, PurePath(spool.root))

    spools["b"].put(b"inbox/file")

    assert first(hints) == {Hint(HintKind.ARRIVED, "b")}


def test_an_inbox_that_is_watched_anew_gives_hints_of_its_new_folder(
    spool: Spool, observer: Observer, hints: HintQueue
) -> None:
    observer.watch("drop", PurePath(spool.root))
    spool.root.rename(spool.root.with_name("old"))
    Spool.make(spool.root)

    observer.watch("drop", PurePath(spool.root))
    hints.wait(0.0)
    spool.put(b"inbox/new")

    assert comes(hints, ARRIVED)
    assert len(observer.backend.emitters) == 2


def test_an_inbox_that_is_forgotten_gives_no_hints_and_others_still_do(
    tmp_path: Path, observer: Observer, hints: HintQueue
) -> None:
    spools = {name: Spool.make(tmp_path / name) for name in ("a", "b")}
    for name, spool in spools.items():
        observer.watch(name, PurePath(spool.root))

    observer.unwatch("a")
    for spool in spools.values():
        spool.put(b"inbox/file")

    assert first(hints) == {Hint(HintKind.ARRIVED, "b")}
    assert observer.healthy


def test_to_forget_an_inbox_that_is_not_watched_does_nothing(observer: Observer) -> None:
    observer.unwatch("drop")

    assert observer.healthy


@pytest.mark.parametrize("missing", ["inbox", "claimed"])
def test_an_inbox_without_its_folders_is_refused_and_can_be_watched_later(
    missing: str, spool: Spool, observer: Observer, hints: HintQueue
) -> None:
    (spool.root / missing).rmdir()
    with pytest.raises(FileNotFoundError):
        observer.watch("drop", PurePath(spool.root))

    (spool.root / missing).mkdir()
    observer.watch("drop", PurePath(spool.root))
    spool.put(b"inbox/file")

    assert first(hints) == {ARRIVED}
    assert observer.healthy


def test_an_event_that_is_no_hint_is_passed_over(hints: HintQueue) -> None:
    HintHandler(hints, "drop").dispatch(FileClosedEvent("a"))

    assert hints.wait(0.0) == set()


def test_without_an_inbox_there_is_nothing_that_could_be_ill(observer: Observer) -> None:
    assert observer.healthy


def test_an_observer_whose_reader_has_ended_is_not_healthy_until_it_is_made_anew(
    spool: Spool, observer: Observer, hints: HintQueue
) -> None:
    observer.watch("drop", PurePath(spool.root))
    assert observer.healthy

    observer.backend.reader.stop()
    eventually(lambda: not observer.healthy)
    observer.stop()
    observer.watch("drop", PurePath(spool.root))
    hints.wait(0.0)
    spool.put(b"inbox/file")

    assert observer.healthy
    assert comes(hints, ARRIVED)


def test_stopping_leaves_no_thread_and_no_descriptor(spool: Spool, hints: HintQueue) -> None:
    threads, descriptors = threading.enumerate(), len(list(Path("/proc/self/fd").iterdir()))
    observer = Observer(hints)
    observer.watch("drop", PurePath(spool.root))

    observer.stop()
    observer.stop()

    assert threading.enumerate() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_stopping_leaves_no_thread_when_one_of_them_had_ended_before(spool: Spool, hints: HintQueue) -> None:
    threads = threading.enumerate()
    observer = Observer(hints)
    observer.watch("drop", PurePath(spool.root))
    inner = observer.backend

    inner.stopped_event.set()  # its own thread ends, and nobody has told the others
    inner.event_queue.put(EventDispatcher.stop_event)
    eventually(lambda: not inner.is_alive())
    assert not observer.healthy
    observer.stop()

    left = set(threading.enumerate()) - set(threads)
    inner.on_thread_stop()
    assert left == set()
