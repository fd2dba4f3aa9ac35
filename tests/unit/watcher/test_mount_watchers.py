"""Which loop watches what, and loops whose mount fails."""

import threading
import time
from collections.abc import Iterator

import pytest
from support.waiting import eventually

from inboxd.broker.heartbeat import InboxReport
from inboxd.config.settings import Settings
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk
from inboxd.intake.scan import ScanPart
from inboxd.watcher import mount_watchers
from inboxd.watcher.mount_watchers import MountWatcher, MountWatchers, Partition, partition

ROOT = Mount(1, "ext4", "/")


def _partition(*mounts: Mount, **rules: object) -> Partition:
    settings = Settings(inbox={"drop": {"root": "/srv/drop", **rules}, "other": {"root": "/srv/other"}})
    return partition(settings.inbox.values(), [ROOT, *mounts], lambda path: path)


def test_inboxes_on_local_mounts_belong_to_the_main_loop() -> None:
    assert _partition(Mount(2, "xfs", "/srv")) == Partition({"drop": ScanPart(), "other": ScanPart()}, {})


def test_inboxes_on_one_network_mount_share_a_loop() -> None:
    found = _partition(Mount(2, "nfs4", "/srv"))

    assert found == Partition({}, {"/srv (mount 2)": {"drop": ScanPart(), "other": ScanPart()}})


@pytest.mark.parametrize("kind", ["fuse.sshfs", "xfs"])
def test_a_mount_below_an_inbox_has_a_loop_and_is_skipped_by_the_inbox_s_own(kind: str) -> None:
    """A local one, too: its files are copied when they are claimed."""
    found = _partition(Mount(2, kind, "/srv/drop/inbox/a b"), Mount(3, "cifs", "/srv/drop/inbox/a b/c"))

    assert found.own == {"drop": ScanPart(skipped=frozenset({b"a b", b"a b/c"})), "other": ScanPart()}
    assert found.apart == {
        "/srv/drop/inbox/a b (mount 2)": {"drop": ScanPart(b"a b", frozenset({b"a b/c"}))},
        "/srv/drop/inbox/a b/c (mount 3)": {"drop": ScanPart(b"a b/c")},
    }


def test_mounts_below_an_inbox_that_is_not_recursive_are_not_watched() -> None:
    assert _partition(Mount(2, "cifs", "/srv/drop/inbox/x"), recursive=False).apart == {}


def test_an_inbox_that_copies_has_a_loop_of_its_mount() -> None:
    assert _partition(claim="copy").apart == {"/ (mount 1), copies": {"drop": ScanPart()}}
    assert _partition(Mount(2, "xfs", "/srv/drop/inbox")).apart == {"/srv/drop/inbox (mount 2), copies": {"drop": ScanPart()}}


def test_without_a_mount_table_all_belongs_to_the_main_loop() -> None:
    settings = Settings(inbox={"drop": {"root": "/srv/drop", "claim": "copy"}})

    assert partition(settings.inbox.values(), [], lambda path: path) == Partition({"drop": ScanPart()}, {})


class FakeLoop:
    """A loop that waits for the stop, hangs until ``release``, or raises."""

    def __init__(self, watcher: MountWatcher, release: threading.Event | None, error: OSError | None) -> None:
        self._watcher, self._release, self._error = watcher, release, error

    def run(self) -> None:
        if self._error:
            raise self._error
        if self._release:
            self._release.wait()
            return
        while not self._watcher.hints.wait(0.05):
            self._watcher.stamp_loop()

    def reports(self, outage: str) -> dict[str, InboxReport]:
        return {name: InboxReport("polling", "", is_busy=False, outage=outage or None) for name in self._watcher.parts}


class Loops:
    """Mount watchers with fake loops, over a made-up mount table."""

    def __init__(self) -> None:
        self.made: list[MountWatcher] = []
        self.release: threading.Event | None = None
        self.error: OSError | None = None
        self.watchers = MountWatchers(Disk(), self.make)
        self.settings = Settings(inbox={"drop": {"root": "/srv/drop"}, "other": {"root": "/mnt/other"}})

    def make(self, watcher: MountWatcher) -> FakeLoop:
        self.made.append(watcher)
        return FakeLoop(watcher, self.release, self.error)

    def apply(self, *mounts: Mount) -> None:
        found = partition(self.settings.inbox.values(), [ROOT, *mounts], lambda path: path)
        self.watchers.apply(self.settings, found)


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loops]:
    monkeypatch.setattr(mount_watchers, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(mount_watchers, "RETRY_SECONDS", (0.05, 0.1))
    made = Loops()
    yield made
    if made.release:
        made.release.set()
    made.watchers.stop()


SCANS = Mount(2, "fuse.sshfs", "/srv/drop/inbox/scans")
OTHER = Mount(3, "nfs4", "/mnt/other")


def test_a_loop_runs_for_each_mount_and_goes_on_while_nothing_changes(loops: Loops) -> None:
    loops.apply(SCANS, OTHER)
    loops.apply(SCANS, OTHER)
    loops.watchers.keep_running()

    eventually(lambda: len(loops.made) == 2)
    assert {watcher.name for watcher in loops.made} == {SCANS.name, OTHER.name}
    whole, below = loops.watchers.reports()
    assert whole.keys() == {"other"}
    assert below.keys() == {"drop"}


def test_the_loop_of_a_mount_that_is_gone_ends(loops: Loops) -> None:
    loops.apply(SCANS, OTHER)
    eventually(lambda: len(loops.made) == 2)

    loops.apply(OTHER)

    eventually(lambda: [watcher.is_alive for watcher in sorted(loops.made, key=lambda watcher: watcher.name)] == [True, False])


def test_a_hung_loop_is_reported_and_no_second_one_is_started_for_its_mount(loops: Loops) -> None:
    loops.release = threading.Event()
    loops.apply(SCANS, OTHER)
    eventually(lambda: "does not answer" in (loops.watchers.reports()[1]["drop"][0].outage or ""))
    eventually(lambda: "/mnt/other (mount 3) does not answer" in (loops.watchers.reports()[0]["other"].outage or ""))

    loops.settings = Settings(
        inbox={"drop": {"root": "/srv/drop", "retries": 9}, "other": {"root": "/mnt/other", "retries": 9}}
    )
    loops.apply(SCANS, OTHER)
    loops.watchers.keep_running()
    assert len(loops.made) == 2

    loops.release.set()
    loops.release = None
    eventually(lambda: (loops.watchers.keep_running(), len(loops.made) == 4)[1])


def test_a_loop_whose_folders_are_missing_reports_that_and_tries_again(loops: Loops) -> None:
    loops.error = OSError(2, "No such file or directory")
    loops.apply(SCANS)
    eventually(lambda: "No such file" in (loops.watchers.reports()[1]["drop"][0].outage or ""))

    loops.error = None

    eventually(lambda: loops.watchers.reports()[1]["drop"][0].outage is None)


def test_another_mount_on_the_same_point_has_a_loop_although_the_first_one_hangs(loops: Loops) -> None:
    loops.release = threading.Event()
    loops.apply(OTHER)
    eventually(lambda: bool(loops.made) and bool(loops.made[0].silence))
    hung = loops.release
    loops.release = None

    loops.apply(Mount(9, "nfs4", OTHER.point))

    eventually(lambda: len(loops.made) == 2)
    assert loops.watchers.reports()[0]["other"].outage is None
    hung.set()


def test_a_refused_thread_is_tried_again(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        loops.apply(OTHER)
    assert "does not answer" in (loops.watchers.reports()[0]["other"].outage or "")

    loops.watchers.keep_running()

    eventually(lambda: len(loops.made) == 1)


def test_a_stop_does_not_wait_for_a_hung_loop(loops: Loops) -> None:
    loops.release = threading.Event()
    loops.apply(OTHER)
    eventually(lambda: bool(loops.made) and bool(loops.made[0].silence))

    started = time.monotonic()
    loops.watchers.stop()

    assert time.monotonic() - started < 1.0
