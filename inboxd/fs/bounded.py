"""Run what touches a mount that may hang in a thread, and wait for it no longer than some seconds.

A system call on a hung mount can't be interrupted, but it can be waited for by nobody.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Generic, TypeVar

from inboxd.errors import FolderUnavailable
from inboxd.fs.mounts import Mount, covering_mount, mounts_below, parse_mount_table, read_mount_table
from inboxd.fs.syscalls import Disk

_T = TypeVar("_T")

PROBE_SECONDS = 1.0
"""Maximum time for a mount to show that it answers."""

MOUNTS_SECONDS = 1.0
"""How long a reading of the mount table counts: a worker asks for each parcel, and a sweep for each inbox."""


@dataclass(eq=False)
class _Call(Generic[_T]):
    """An action in a thread, and what it returned or raised."""

    action: Callable[[], _T]
    started_at: float = field(default_factory=time.monotonic)
    results: list[_T] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="bounded", daemon=True)

    def _run(self) -> None:
        try:
            self.results.append(self.action())
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            self.errors.append(error)

    def start(self, seconds: float) -> None:
        """Start, and wait for the end at most ``seconds``. Raises RuntimeError if the system refuses a thread."""
        self._thread.start()
        self._thread.join(seconds)

    @property
    def is_running(self) -> bool:
        """Whether the thread runs; in a child process that was forked meanwhile, it does not."""
        return self._thread.is_alive()


_calls: dict[str, list[_Call[object]]] = {}
"""The calls that have not ended, by mount."""


def run_within(action: Callable[[], _T], seconds: float) -> _T:
    """Return what ``action`` returns, or raise what it raises. Raises TimeoutError after some seconds; the action goes on."""
    call = _Call(action)
    call.start(seconds)
    if call.errors:
        raise call.errors[0]
    if call.results:
        return call.results[0]
    raise TimeoutError(f"no answer within {seconds:g} s")


def run_bounded(disk: Disk, where: Mount, action: Callable[[], _T], seconds: float) -> _T:
    """Return what ``action`` returns, or raise what it raises.

    Raises FolderUnavailable, which names the mount, if that takes longer than ``seconds``, and soon if the mount hangs.
    """
    call = _start(disk, where, action, seconds, seconds)
    if call.errors:
        raise call.errors[0]
    if call.results:
        return call.results[0]
    raise FolderUnavailable(f"{where.name} does not answer within {seconds:g} s: check its server")


def run_detached(disk: Disk, where: Mount, action: Callable[[], object], seconds: float, hung_seconds: float) -> None:
    """Wait for ``action`` at most ``seconds``; it goes on in its thread, where nobody sees what it raises later.

    Raises what ``action`` raises in time, and FolderUnavailable if the mount hangs: if an earlier action has not ended for
    ``hung_seconds``, and the mount does not answer now.
    """
    call = _start(disk, where, action, seconds, hung_seconds)
    if call.errors:
        raise call.errors[0]


def _start(disk: Disk, where: Mount, action: Callable[[], _T], seconds: float, hung_seconds: float) -> _Call[_T]:
    """Start an action in a thread, and wait for its end for some seconds. Raises FolderUnavailable if the mount hangs."""
    _calls[where.name] = running = [earlier for earlier in _calls.get(where.name, []) if earlier.is_running]
    hung_before = time.monotonic() - hung_seconds
    if any(earlier.started_at < hung_before for earlier in running) and not _answers(disk, where):
        raise FolderUnavailable(describe_silence(where.name))
    call = _Call(action)
    running.append(call)  # type: ignore[arg-type]  # a call of any type
    try:
        call.start(seconds)
    except RuntimeError as error:  # the limit of tasks or memory
        raise FolderUnavailable(f"{where.name}: {error}") from error
    return call


def _answers(disk: Disk, where: Mount) -> bool:
    """Return whether a mount answers within PROBE_SECONDS; one probe runs at a time."""
    key = f"{where.name}, probe"
    earlier = _calls.get(key, [])
    if any(probe.is_running for probe in earlier):
        return False

    def probe() -> bool:
        disk.close(disk.open_root(PurePath(where.point)))
        return True

    call: _Call[object] = _Call(probe)
    _calls[key] = [call]
    try:
        call.start(PROBE_SECONDS)
    except RuntimeError:
        return False
    return not call.is_running  # an error is an answer, too


def foreign_mount(disk: Disk, root: PurePath) -> Mount | None:
    """Return a network or FUSE mount that an inbox's folders are on, by its root's path; None if there is none."""
    _table.refresh(disk)
    if root not in _table.foreign:
        mounts = list(parse_mount_table(_table.text))
        _table.foreign[root] = _find_foreign(disk, mounts, root) if mounts else None
    return _table.foreign[root]


def _find_foreign(disk: Disk, mounts: list[Mount], root: PurePath) -> Mount | None:
    resolve: _Call[PurePath] = _Call(lambda: disk.real_path(root))
    try:
        resolve.start(PROBE_SECONDS)
    except RuntimeError:
        return None
    if not resolve.results:  # it leads through a mount that hangs
        return Mount(0, "unknown", str(root))
    path = resolve.results[0]
    on = (covering_mount(mounts, path), *mounts_below(mounts, path).values())
    return next((mount for mount in on if mount.is_network), None)


@dataclass
class _MountTable:
    """The mount table, read once a second at most, and what was found in it."""

    text: str = ""
    foreign: dict[PurePath, Mount | None] = field(default_factory=dict)
    due: float = 0.0

    def refresh(self, disk: Disk) -> None:
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + MOUNTS_SECONDS
        try:
            text = read_mount_table(disk)
        except OSError:
            text = ""
        if text != self.text:
            self.text, self.foreign = text, {}


_table = _MountTable()


def run_on_mounts(disk: Disk, root: PurePath, action: Callable[[], _T], seconds: float) -> _T:
    """Run what touches an inbox's folders: at once if these are on local mounts only, else as ``run_bounded``."""
    where = foreign_mount(disk, root)
    return run_bounded(disk, where, action, seconds) if where else action()


def describe_silence(where: str) -> str:
    """Return why a place is unavailable whose file system does not reply."""
    return f"{where} does not answer: check its server, or unmount it (umount -l)"
