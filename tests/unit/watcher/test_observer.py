"""The observer with the real kernel: which change gives which hint, how soon, and that nothing leaks."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import pytest
from support.descriptors import open_descriptors
from support.disk.spools import Spool
from support.waiting import DEADLINE_SECONDS, eventually
from watchdog.events import FileClosedEvent
from watchdog.observers.api import EventDispatcher
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent

from inboxd.watcher.hints import Hint, HintKind, HintQueue
from inboxd.watcher.observer import HintHandler, Observer

ARRIVED = Hint(HintKind.ARRIVED, "drop")
RETURNED = Hint(HintKind.PARCEL_REMOVED, "drop")
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


def wait_for_first(hints: HintQueue) -> set[Hint]:
    """Wait for and return the first hints."""
    return hints.wait(DEADLINE_SECONDS)


def wait_for(hints: HintQueue, expected: Hint) -> bool:
    """Wait for a hint; return False if it is not queued before the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if expected in hints.wait(left):
            return True
    return False


def close_after_write(spool: Spool) -> None:
    spool.put(b"inbox/new")


def append_to_file(spool: Spool) -> None:
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
        close_after_write, append_to_file, rename_in, rename_within, make_a_folder, make_a_hard_link,
        make_a_symbolic_link, make_a_named_pipe,
    ],
)  # fmt: skip
def test_each_arrival_gives_a_hint(change: Callable[[Spool], None], spool: Spool, observer: Observer, hints: HintQueue) -> None:
    spool.put(b"inbox/old")
    spool.put(b"outside")
    observer.watch("drop", PurePath(spool.root))

    change(spool)

    assert wait_for_first(hints) == {ARRIVED}


def test_the_removal_of_a_parcel_gives_a_hint(spool: Spool, observer: Observer, hints: HintQueue) -> None:
    parcel = spool.claimed(b"a")
    observer.watch("drop", PurePath(spool.root))

    shutil.rmtree(spool.root / "claimed" / parcel)

    assert wait_for_first(hints) == {RETURNED}


def test_a_claim_gives_no_hint(spool: Spool, observer: Observer, hints: HintQueue) -> None:
    parcel = spool.claimed(b"a")
    spool.put(b"inbox/b")
    observer.watch("drop", PurePath(spool.root))

    spool.where(b"inbox/b").rename(spool.root / "claimed" / parcel / "b")
    (spool.root / "claimed" / ("0" * 28)).mkdir()
    shutil.rmtree(spool.root / "claimed" / parcel)  # the first change that gives a hint

    assert wait_for_first(hints) == {RETURNED}


def test_a_claim_does_not_delay_the_hint_of_the_next_file(spool: Spool, observer: Observer, hints: HintQueue) -> None:
    observer.watch("drop", PurePath(spool.root))

    seconds = []
    for number in range(3):
        old = spool.put(b"inbox/old-%d" % number)
        assert wait_for(hints, ARRIVED)
        old.rename(spool.root / "claimed" / old.name)
        started = time.monotonic()
        spool.put(b"inbox/new-%d" % number)
        assert wait_for(hints, ARRIVED)
        seconds.append(time.monotonic() - started)

    assert min(seconds) < 0.3  # watchdog's own emitter takes 0.5 s each time


@pytest.mark.parametrize("folder", ["", "inbox"])
def test_a_moved_or_deleted_folder_gives_a_hint(folder: str, tmp_path: Path, observer: Observer, hints: HintQueue) -> None:
    for number, lose in enumerate((lambda place: place.rename(tmp_path / "moved"), shutil.rmtree)):
        spool = Spool.make(tmp_path / str(number))
        observer.watch("drop", PurePath(spool.root))

        lose(spool.root / folder / ("inbox" if lose is not shutil.rmtree and not folder else ""))

        assert wait_for(hints, LOST)


def test_a_deleted_claimed_folder_gives_a_hint(spool: Spool, observer: Observer, hints: HintQueue) -> None:
    observer.watch("drop", PurePath(spool.root))

    (spool.root / "claimed").rmdir()

    assert wait_for(hints, LOST)


def test_a_queue_overflow_gives_overflow_hints(tmp_path: Path, observer: Observer, hints: HintQueue) -> None:
    for name in ("a", "b"):
        observer.watch(name, PurePath(Spool.make(tmp_path / name).root))

    observer.backend.reader.handle_event(InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b""))

    assert wait_for(hints, Hint(HintKind.OVERFLOWED, "a")) or wait_for(hints, Hint(HintKind.OVERFLOWED, "b"))


def test_a_hint_names_its_inbox(tmp_path: Path, observer: Observer, hints: HintQueue) -> None:
    spools = {name: Spool.make(tmp_path / name) for name in ("a", "b")}
    for name, spool in spools.items():
        observer.watch(name, PurePath(spool.root))

    spools["b"].put(b"inbox/file")

    assert wait_for_first(hints) == {Hint(HintKind.ARRIVED, "b")}


def test_an_inbox_that_is_watched_again_gives_hints_of_its_new_folder(
    spool: Spool, observer: Observer, hints: HintQueue
) -> None:
    observer.watch("drop", PurePath(spool.root))
    spool.root.rename(spool.root.with_name("old"))
    Spool.make(spool.root)

    observer.watch("drop", PurePath(spool.root))
    hints.wait(0.0)
    spool.put(b"inbox/new")

    assert wait_for(hints, ARRIVED)
    assert len(observer.backend.emitters) == 2


def test_after_unwatch_only_other_inboxes_give_hints(tmp_path: Path, observer: Observer, hints: HintQueue) -> None:
    spools = {name: Spool.make(tmp_path / name) for name in ("a", "b")}
    for name, spool in spools.items():
        observer.watch(name, PurePath(spool.root))

    observer.unwatch("a")
    for spool in spools.values():
        spool.put(b"inbox/file")

    assert wait_for_first(hints) == {Hint(HintKind.ARRIVED, "b")}
    assert observer.is_healthy


def test_unwatch_of_an_inbox_that_is_not_watched_does_nothing(observer: Observer) -> None:
    observer.unwatch("drop")

    assert observer.is_healthy


@pytest.mark.parametrize("missing", ["inbox", "claimed"])
def test_an_inbox_with_a_missing_folder_raises_an_error_and_can_be_watched_later(
    missing: str, spool: Spool, observer: Observer, hints: HintQueue
) -> None:
    (spool.root / missing).rmdir()
    with pytest.raises(FileNotFoundError):
        observer.watch("drop", PurePath(spool.root))

    (spool.root / missing).mkdir()
    observer.watch("drop", PurePath(spool.root))
    spool.put(b"inbox/file")

    assert wait_for_first(hints) == {ARRIVED}
    assert observer.is_healthy


def test_an_event_that_is_not_a_hint_is_ignored(hints: HintQueue) -> None:
    HintHandler(hints, "drop").dispatch(FileClosedEvent("a"))

    assert hints.wait(0.0) == set()


def test_an_observer_without_inboxes_is_healthy(observer: Observer) -> None:
    assert observer.is_healthy


def test_an_observer_without_its_reader_is_not_healthy_until_it_is_restarted(
    spool: Spool, observer: Observer, hints: HintQueue
) -> None:
    observer.watch("drop", PurePath(spool.root))
    assert observer.is_healthy

    observer.backend.reader.stop()
    eventually(lambda: not observer.is_healthy)
    observer.stop()
    observer.watch("drop", PurePath(spool.root))
    hints.wait(0.0)
    spool.put(b"inbox/file")

    assert observer.is_healthy
    assert wait_for(hints, ARRIVED)


def test_stop_ends_all_threads_and_closes_all_descriptors(spool: Spool, hints: HintQueue) -> None:
    threads, descriptors = threading.enumerate(), open_descriptors()
    observer = Observer(hints)
    observer.watch("drop", PurePath(spool.root))

    observer.stop()
    observer.stop()

    assert threading.enumerate() == threads
    assert open_descriptors() == descriptors


def test_stop_ends_all_threads_if_the_dispatcher_had_died_before(spool: Spool, hints: HintQueue) -> None:
    threads = threading.enumerate()
    observer = Observer(hints)
    observer.watch("drop", PurePath(spool.root))
    backend = observer.backend

    backend.stopped_event.set()  # the dispatcher ends without stopping the other threads
    backend.event_queue.put(EventDispatcher.stop_event)
    eventually(lambda: not backend.is_alive())
    assert not observer.is_healthy
    observer.stop()

    left = set(threading.enumerate()) - set(threads)
    backend.on_thread_stop()
    assert left == set()


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_refused_thread_is_an_error_that_the_watcher_tries_again_after(
    spool: Spool, observer: Observer, hints: HintQueue, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """The kernel refuses threads at the limit of a service's tasks: of two, the first may have been started."""
    started: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        real_start(thread)

    real_start = threading.Thread.start
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="can't start new thread") as raised:
            observer.watch("drop", PurePath(spool.root))

    assert raised.value.errno == errno.EAGAIN
    eventually(lambda: not any(thread.is_alive() for thread in started))
    observer.watch("drop", PurePath(spool.root))
    spool.put(b"inbox/new")
    assert wait_for(hints, ARRIVED)
