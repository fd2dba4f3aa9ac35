"""Watchdog's internals that inboxd relies on, and the hints that the emitter makes of the kernel's events."""

import inspect
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import eventually
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver, EventEmitter, EventQueue, ObservedWatch
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD, WatchCallback

from inboxd.watcher import inotify
from inboxd.watcher.hints import HintKind
from inboxd.watcher.inotify import CLAIMED_MASK, INBOX_MASK, HintEmitter, HintEvent, HintObserver


class Collector(FileSystemEventHandler):
    """Records the kinds of dispatched events."""

    def __init__(self) -> None:
        self.kinds: list[HintKind] = []

    def dispatch(self, event: FileSystemEvent) -> None:
        assert isinstance(event, HintEvent)
        self.kinds.append(event.kind)


@pytest.fixture
def observer() -> Iterator[HintObserver]:
    made = HintObserver()
    made.start()
    yield made
    made.stop()
    made.join()


def emitter_of(observer: HintObserver) -> HintEmitter:
    (emitter,) = observer.emitters
    assert isinstance(emitter, HintEmitter)
    return emitter


# watchdog's interface


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (EventEmitter.__init__, ["self", "event_queue", "watch", "timeout", "event_filter"]),
        (EventEmitter.queue_event, ["self", "event"]),
        (EventEmitter.start, ["self"]),
        (EventEmitter.on_thread_stop, ["self"]),
        (BaseObserver.__init__, ["self", "emitter_class", "timeout", "kwargs"]),
        (BaseObserver.schedule, ["self", "event_handler", "path", "recursive", "event_filter", "follow_symlink"]),
        (BaseObserver.unschedule, ["self", "watch"]),
        (BaseObserver.on_thread_stop, ["self"]),
        (InotifyFD.__init__, ["self"]),
        (InotifyFD.add_callback, ["self", "path", "mask", "callback", "id_"]),
        (InotifyFD.remove_callbacks, ["self", "callbacks"]),
        (InotifyFD.read_events, ["self", "event_buffer_size"]),
        (WatchCallback.on_event, ["self", "event"]),
        (WatchCallback.on_watch_deleted, ["self", "wd"]),
        (WatchCallback.on_queue_overflow, ["self"]),
        (FileSystemEventHandler.dispatch, ["self", "event"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_the_used_functions_of_watchdog_have_the_expected_signatures(function: object, names: list[str]) -> None:
    assert callable(function)
    assert list(inspect.signature(function).parameters) == names


def test_the_threads_of_watchdog_have_the_expected_attributes() -> None:
    assert isinstance(BaseObserver.emitters, property)
    assert isinstance(EventEmitter.watch, property)
    assert all(issubclass(kind, threading.Thread) for kind in (BaseObserver, EventEmitter, InotifyFD))
    emitter = HintEmitter(EventQueue(), ObservedWatch("/", recursive=False), reader=InotifyFD.__new__(InotifyFD))
    assert isinstance(emitter.stopped_event, threading.Event)
    assert isinstance(InotifyFD.stopped_event, property)


def test_the_emitter_has_every_method_of_the_callback_protocol() -> None:
    methods = {name for name, _ in inspect.getmembers(WatchCallback, inspect.isfunction) if name.startswith("on_")}

    assert methods == {"on_event", "on_watch_deleted", "on_queue_overflow"}
    assert methods <= set(vars(HintEmitter))


def test_an_inotify_event_has_the_expected_fields() -> None:
    event = InotifyEvent(1, InotifyConstants.IN_CLOSE_WRITE, 0, b"a")

    assert (event.wd, event.mask, event.cookie, event.name) == (1, 8, 0, b"a")


def test_no_mask_includes_moved_from_whose_pairing_would_delay_events_by_half_a_second() -> None:
    assert not (INBOX_MASK | CLAIMED_MASK) & InotifyConstants.IN_MOVED_FROM


# the emitter


def test_a_hint_that_equals_the_last_unread_one_is_dropped() -> None:
    queue = EventQueue()
    watch = ObservedWatch("/x", recursive=False)

    for kind in (HintKind.ARRIVED, HintKind.ARRIVED, HintKind.ROOT_LOST, HintKind.ARRIVED):
        queue.put((HintEvent("/x", kind=kind), watch))

    assert [queue.get()[0].kind for _ in range(queue.qsize())] == [HintKind.ARRIVED, HintKind.ROOT_LOST, HintKind.ARRIVED]


@pytest.mark.parametrize(
    ("folder", "mask", "kind"),
    [
        ("inbox", InotifyConstants.IN_CLOSE_WRITE, HintKind.ARRIVED),
        ("inbox", InotifyConstants.IN_MOVED_TO, HintKind.ARRIVED),
        ("inbox", InotifyConstants.IN_CREATE | InotifyConstants.IN_ISDIR, HintKind.ARRIVED),
        ("inbox", InotifyConstants.IN_DELETE_SELF, HintKind.ROOT_LOST),
        ("inbox", InotifyConstants.IN_MOVE_SELF, HintKind.ROOT_LOST),
        ("inbox", InotifyConstants.IN_UNMOUNT, HintKind.ROOT_LOST),
        ("claimed", InotifyConstants.IN_DELETE | InotifyConstants.IN_ISDIR, HintKind.PARCEL_REMOVED),
        ("claimed", InotifyConstants.IN_UNMOUNT, HintKind.ROOT_LOST),
    ],
)
def test_each_event_is_converted_to_its_hint(
    folder: str, mask: int, kind: HintKind, observer: HintObserver, tmp_path: Path
) -> None:
    (tmp_path / folder).mkdir()
    seen = Collector()
    observer.schedule(seen, str(tmp_path / folder))

    emitter_of(observer).on_event(InotifyEvent(1, mask, 0, b"a"))

    eventually(lambda: seen.kinds == [kind])


def test_a_queue_overflow_gives_a_hint(observer: HintObserver, tmp_path: Path) -> None:
    seen = Collector()
    observer.schedule(seen, str(tmp_path))

    observer.reader.handle_event(InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b""))

    eventually(lambda: seen.kinds == [HintKind.OVERFLOWED])


def test_a_missing_folder_or_a_link_is_not_watched(observer: HintObserver, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)

    for name in ("missing", "link"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            observer.schedule(Collector(), str(tmp_path / name))

    assert not observer.emitters


def test_a_folder_without_permission_raises_permission_error(
    observer: HintObserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer.reader, "add_callback", lambda *_: -1)

    with pytest.raises(PermissionError, match="can't be watched"):
        observer.schedule(Collector(), str(tmp_path))

    assert not observer.emitters


def test_after_unschedule_only_the_other_folder_gives_hints(observer: HintObserver, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = Collector(), Collector()
    watch = observer.schedule(first, str(tmp_path / "a"))
    observer.schedule(second, str(tmp_path / "b"))

    observer.unschedule(watch)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "b" / "file").touch()

    eventually(lambda: second.kinds != [])
    assert first.kinds == []


def test_a_folder_whose_name_is_not_utf8_is_watched(observer: HintObserver, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    seen = Collector()
    observer.schedule(seen, str(folder))

    (folder / os.fsdecode(b"\xff")).touch()

    eventually(lambda: HintKind.ARRIVED in seen.kinds)


def test_a_burst_of_files_gives_few_hints(observer: HintObserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify, "THROTTLE_SECONDS", 0.5)
    monkeypatch.setattr(inotify, "IMMEDIATE_SECONDS", 3600.0)  # every read is one of a burst, however slow the machine
    seen = Collector()
    observer.schedule(seen, str(tmp_path))

    started = time.monotonic()
    for number in range(500):
        (tmp_path / f"{number}").touch()
    time.sleep(1.0)  # all events have been read
    reads_max = inotify.UNTHROTTLED_READS + 1 + (time.monotonic() - started) / 0.5

    assert 0 < len(seen.kinds) <= 2 * reads_max  # a file is created and closed: two masks
    assert set(seen.kinds) == {HintKind.ARRIVED}


def test_the_close_of_a_single_file_gives_a_hint_without_delay(
    observer: HintObserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "THROTTLE_SECONDS", 3600.0)
    seen = Collector()
    observer.schedule(seen, str(tmp_path))

    with (tmp_path / "a").open("wb") as file:
        eventually(lambda: seen.kinds)
        file.write(b"x")
        count = len(seen.kinds)

    eventually(lambda: len(seen.kinds) > count)


def test_an_observer_is_healthy_until_one_of_its_threads_ends(tmp_path: Path) -> None:
    for end in (lambda observer: observer.stop(), lambda observer: observer.reader.stop()):
        observer = HintObserver()
        observer.start()
        observer.schedule(Collector(), str(tmp_path))
        assert observer.is_healthy

        end(observer)

        eventually(lambda observer=observer: not observer.is_healthy)
        observer.stop()
        observer.join()


def test_watched_folders_need_no_threads_of_their_own(observer: HintObserver, tmp_path: Path) -> None:
    before = threading.active_count()

    for number in range(200):
        (tmp_path / str(number)).mkdir()
        observer.schedule(Collector(), str(tmp_path / str(number)))

    assert threading.active_count() == before


def test_an_observer_that_was_never_started_is_not_healthy() -> None:
    observer = HintObserver()

    assert not observer.is_healthy
    observer.stop()
