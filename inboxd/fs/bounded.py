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
from inboxd.fs.mounts import covering_mount, mounts_below, parse_mount_table, read_mount_table
from inboxd.fs.syscalls import Disk

_T = TypeVar("_T")

MOUNTS_SECONDS = 1.0
"""How long a reading of the mount table counts: a worker asks for each parcel, and a sweep for each inbox."""


@dataclass(eq=False)
class _Call(Generic[_T]):
    """An action in a thread: what it returned or raised, or that it has not ended."""

    action: Callable[[], _T]
    started_at: float = field(default_factory=time.monotonic)
    results: list[_T] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def run(self) -> None:
        try:
            self.results.append(self.action())
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            self.errors.append(error)

    @property
    def has_ended(self) -> bool:
        return bool(self.results or self.errors)


_calls: dict[str, list[_Call[object]]] = {}
_lock = threading.Lock()


def run_bounded(where: str, action: Callable[[], _T], seconds: float) -> _T:
    """Return what ``action`` returns, or raise what it raises.

    Raises FolderUnavailable, which names ``where``, if that takes longer than ``seconds``, and at once while an earlier action
    at the same place has not ended for so long.
    """
    call = _start(where, action, seconds)
    if call.errors:
        raise call.errors[0]
    if call.results:
        return call.results[0]
    raise FolderUnavailable(describe_silence(where))


def run_detached(where: str, action: Callable[[], object], seconds: float, hung_seconds: float) -> None:
    """Wait for ``action`` at most ``seconds``; it goes on in its thread, where nobody sees what it raises later.

    Raises what ``action`` raises in time, and FolderUnavailable while an earlier one has not ended for ``hung_seconds``.
    """
    call = _start(where, action, seconds, hung_seconds)
    if call.errors:
        raise call.errors[0]


def _start(where: str, action: Callable[[], _T], seconds: float, hung_seconds: float | None = None) -> _Call[_T]:
    """Start an action in a thread, and wait for its end for some seconds. Raises FolderUnavailable if an earlier one hangs."""
    call = _Call(action)
    with _lock:
        running = [earlier for earlier in _calls.get(where, []) if not earlier.has_ended]
        hung_before = time.monotonic() - (seconds if hung_seconds is None else hung_seconds)
        _calls[where] = running
        if any(earlier.started_at < hung_before for earlier in running):
            raise FolderUnavailable(describe_silence(where))
        _calls[where] = [*running, call]  # type: ignore[list-item]  # a call of any type
    thread = threading.Thread(target=call.run, name=f"bounded {where}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the limit of tasks or memory
        call.errors.append(error)
        raise FolderUnavailable(f"{where}: {error}") from error
    thread.join(seconds)
    return call


def foreign_mount(disk: Disk, root: PurePath) -> str:
    """Return the mount point of a network or FUSE mount that an inbox's folders are on; "" if there is none."""
    _table.refresh(disk)
    found = _table.foreign.get(root)
    if found is None:
        mounts = list(parse_mount_table(_table.text))
        on = (covering_mount(mounts, root), *mounts_below(mounts, root).values()) if mounts else ()
        found = _table.foreign[root] = next((mount.point for mount in on if mount.is_network), "")
    return found


@dataclass
class _MountTable:
    """The mount table, read once a second at most, and what was found in it."""

    text: str = ""
    foreign: dict[PurePath, str] = field(default_factory=dict)
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
    return run_bounded(where, action, seconds) if where else action()


def describe_silence(where: str) -> str:
    """Return why a place is unavailable whose file system does not reply."""
    return f"{where} does not answer: check its server, or unmount it (umount -l)"
