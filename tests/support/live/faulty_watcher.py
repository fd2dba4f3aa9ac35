"""The real watcher over a faulty watchdog: a file named "fault" in the stand's folder names the fault to inject.

A fault of ONCE happens at the next opportunity and removes the file; one of LASTING lasts until the file is removed.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watchdog.observers import inotify_c

from inboxd.watcher import main as program
from inboxd.watcher import observer, watches

FAULT = Path(os.environ["STAND_FOLDER"]) / "fault"
ONCE = ("reader", "handler")
LASTING = ("no watches", "no instances")

_WATCH_RETRY_SECONDS = 1.0


def _is_set(fault: str) -> bool:
    try:
        return FAULT.read_text("ascii") == fault
    except FileNotFoundError:
        return False


def _raise_once(fault: str) -> None:
    if _is_set(fault):
        FAULT.unlink()
        raise RuntimeError(f"the test injected an error into the {fault}")


def _raising(fault: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any) -> Any:  # noqa: ANN401
        _raise_once(fault)
        return function(*args)

    return wrapped


def _refusing(fault: str, code: int, function: Callable[..., int]) -> Callable[..., int]:
    """Fail with an errno, as the kernel does."""

    def wrapped(*args: Any) -> int:  # noqa: ANN401
        if _is_set(fault):
            ctypes.set_errno(code)
            return -1
        return function(*args)

    return wrapped


def main() -> int:
    """Run the watcher with the faults patched in."""
    inotify_c.InotifyFD.handle_event = _raising("reader", inotify_c.InotifyFD.handle_event)
    observer.HintHandler.dispatch = _raising("handler", observer.HintHandler.dispatch)
    inotify_c.inotify_add_watch = _refusing("no watches", errno.ENOSPC, inotify_c.inotify_add_watch)
    inotify_c.inotify_init = _refusing("no instances", errno.EMFILE, inotify_c.inotify_init)
    watches.WATCH_RETRY_SECONDS = _WATCH_RETRY_SECONDS
    return program.main()


if __name__ == "__main__":
    sys.exit(main())
