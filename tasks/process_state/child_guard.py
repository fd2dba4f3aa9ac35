"""Undoes what a handler has changed in its worker's child process, and says when the process must be replaced.

A handler is a program of somebody else that runs in a process of ours: a umask that it sets would become that of the next
inbox's folders, and descriptors that it leaks would end in files that can't be opened.
"""

import locale
import math
import multiprocessing.process
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from inboxd.fs.syscalls import OUT_OF_RESOURCES, Disk, become_subreaper
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.tasks.process_state.handler_output import HandlerOutput

SIGNALS = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGCHLD, signal.SIGPIPE,
)  # fmt: skip
"""The signals whose handlers are restored."""
LIMITS = (
    resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_AS, resource.RLIMIT_DATA,
    resource.RLIMIT_STACK, resource.RLIMIT_CPU, resource.RLIMIT_CORE,
)  # fmt: skip
"""The resource limits that a handler must leave as they are."""
THREADS_MAX = 64
"""Number of threads from which a process is replaced."""
ROUNDS_MAX = 10
"""How often processes are looked for and killed, since they may start others meanwhile."""

_log = get_logger(__name__)

_SignalHandler = Any  # what signal.getsignal returns


@dataclass(frozen=True, slots=True)
class _Baseline:
    """The state of a child before its first handler."""

    umask: int
    folder: str
    niceness: int
    locale: str
    signals: Mapping[signal.Signals, _SignalHandler]
    blocked: frozenset[int]
    streams: tuple[object, object, object]
    limits_and_ids: tuple[object, ...]


class ChildGuard:
    """The state of one child process; does nothing before ``start``, as in a pool of threads, which share all of it."""

    def __init__(self, files_max: int) -> None:
        """``files_max`` is the number of open files from which a child is replaced."""
        self.is_spent = False
        """Whether the process must be replaced after its current task."""
        self.logged: set[str] = set()
        """What was logged of this process."""
        self.output = HandlerOutput()
        self._files_max = files_max
        self._is_child = False
        self._baseline: _Baseline | None = None
        self._environment: dict[Any, Any] = {}

    def start(self) -> None:
        """Begin guarding this process, a new child; orphans of its own children become its children."""
        become_subreaper()
        self.output.start()
        self._is_child = True
        # a handler may use multiprocessing: to Celery's pool, this process is a daemon, which must not have children
        current: Any = multiprocessing.process.current_process()
        current._config["daemon"] = False  # noqa: SLF001

    def before_parcel(self) -> None:
        """Remember the state of the process before its first handler is imported."""
        if self._is_child and self._baseline is None:
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            streams, name = (sys.stdin, sys.stdout, sys.stderr), locale.setlocale(locale.LC_ALL)
            niceness = os.getpriority(os.PRIO_PROCESS, 0)
            self._environment = dict(_environment())
            self._baseline = _Baseline(
                _read_umask(), _current_folder(), niceness, name, handlers, _blocked(), streams, _limits_and_ids()
            )

    def before_call(self) -> None:
        """Remember the environment: what a handler's module has set at its import stays."""
        if self._baseline:
            self._environment = dict(_environment())

    def after_call(self) -> list[str]:
        """Restore umask, current folder, blocked signals and environment; return the names of what the handler has changed."""
        if self._baseline is None:
            return []
        changed = [name for name, restore in _AFTER_CALLS.items() if restore(self._baseline)]
        if _environment() != self._environment:
            changed.append("environment")
            os.environ.clear()
            os.environ.update({os.fsdecode(key): os.fsdecode(value) for key, value in self._environment.items()})
        return changed

    def after_parcel(self) -> list[str]:
        """Restore the rest; have the process replaced if that is impossible, or if handlers have leaked files or threads."""
        if self._baseline is None:
            return []
        changed = [name for name, restore in _AFTER_PARCELS.items() if restore(self._baseline)]
        if os.getpriority(os.PRIO_PROCESS, 0) != self._baseline.niceness:
            changed.append("nice")
            self.is_spent = True  # only root may become less nice again
        if not self.output.is_intact or _limits_and_ids() != self._baseline.limits_and_ids:
            changed.append("standard descriptors, limits or user")
            self.is_spent = True
        files, threads = count_open_files(), threading.active_count()
        if not self.is_spent and (files > self._files_max or threads > THREADS_MAX):
            self.is_spent = True
            remedy = "the process is replaced; let the handler close its files and end its threads"
            _log.warning(events.CHILD_SPENT, open_files=None if math.isinf(files) else files, threads=threads, remedy=remedy)
        return changed

    def has_leaked(self) -> bool:
        """Return whether handlers have leaked so many files that the next one may fail to be opened: nobody's fault."""
        return self._baseline is not None and count_open_files() > self._files_max

    def end_descendants(self) -> int:
        """Kill the children of this process, and theirs; return their number. Nothing of a handler outlives its time limit."""
        return end_processes(lambda: descendants(os.getpid())) if self._is_child else 0

    def end_orphans(self) -> None:
        """End what a command has left running in a session of its own: its orphans have become children of this process."""
        if self._is_child and has_children():
            self.end_descendants()
            has_children()  # one that was just ending is not among those that were ended


def has_children() -> bool:
    """Reap the children that have ended; return whether one is running."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return False
    return True


def count_open_files() -> float:
    """Return the number of this process's open descriptors; infinity if there is none left to count them with, 0 if unknown."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - quick
    except OSError as error:
        return math.inf if error.errno in OUT_OF_RESOURCES else 0


def children(parent: int) -> set[int]:
    """Return the running children of a process, as far as /proc shows them."""
    return {pid for pid, its_parent in _parents().items() if its_parent == parent}


def descendants(ancestor: int) -> set[int]:
    """Return the running processes that descend from one, as far as /proc shows them."""
    parents, found = _parents(), {ancestor}
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {ancestor}


def _parents() -> dict[int, int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are enough
    return {pid: parent for pid in pids if (parent := _parent(pid)) is not None}


def _parent(pid: int) -> int | None:
    """Return a process's parent, None for one that has ended."""
    with suppress(OSError, IndexError, ValueError):
        state, parent, *_ = Disk().read_text(PurePath(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        return None if state in ("Z", "X") else int(parent)
    return None


def end_processes(find: Callable[[], set[int]]) -> int:
    """Kill the processes that ``find`` returns until there are none: they may start others meanwhile."""
    ended: set[int] = set()
    for _ in range(ROUNDS_MAX):
        found = find()
        if not found:
            break
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended |= found
        for pid in found:
            with suppress(ChildProcessError):  # a grandchild, which becomes a child
                os.waitpid(pid, 0)
    return len(ended)


def _environment() -> Mapping[Any, Any]:
    """Return the environment as os.environ keeps it: comparing its encoded form is quick."""
    return os.environ._data  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001


def _limits_and_ids() -> tuple[object, ...]:
    """Return what a process can't get back once it has given it up: resource limits, user and groups."""
    limits = [resource.getrlimit(limit) for limit in LIMITS]
    return (*limits, os.getresuid(), os.getresgid(), os.getgroups())


def _current_folder() -> str:
    return os.getcwd()  # noqa: PTH109 - after each call: a Path takes ten times as long


def _read_umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _restore_umask(baseline: _Baseline) -> bool:
    return os.umask(baseline.umask) != baseline.umask


def _restore_folder(baseline: _Baseline) -> bool:
    with suppress(OSError):
        if _current_folder() == baseline.folder:
            return False
    os.chdir(baseline.folder)
    return True


def _restore_signals(baseline: _Baseline) -> bool:
    changed = [number for number, handler in baseline.signals.items() if signal.getsignal(number) is not handler]
    for number in changed:
        signal.signal(number, baseline.signals[number] or signal.SIG_DFL)
    return bool(changed)


def _blocked() -> frozenset[int]:
    return frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _restore_blocked(baseline: _Baseline) -> bool:
    return frozenset(signal.pthread_sigmask(signal.SIG_SETMASK, baseline.blocked)) != baseline.blocked


def _restore_alarm(_baseline: _Baseline) -> bool:
    return any(signal.setitimer(signal.ITIMER_REAL, 0.0))


def _restore_locale(baseline: _Baseline) -> bool:
    if locale.setlocale(locale.LC_ALL) == baseline.locale:
        return False
    locale.setlocale(locale.LC_ALL, baseline.locale)
    return True


def _restore_streams(baseline: _Baseline) -> bool:
    if (sys.stdin, sys.stdout, sys.stderr) == baseline.streams:
        return False
    sys.stdin, sys.stdout, sys.stderr = baseline.streams
    return True


_AFTER_CALLS = {"umask": _restore_umask, "current folder": _restore_folder, "blocked signals": _restore_blocked}
_AFTER_PARCELS = {
    "signal handlers": _restore_signals,
    "alarm": _restore_alarm,
    "locale": _restore_locale,
    "standard streams": _restore_streams,
}
"""What is restored: its name, and a function that returns whether it was changed."""
