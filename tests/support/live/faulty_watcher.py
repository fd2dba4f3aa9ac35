"""The watcher as it is, on watchdog as it should not be: a file named "fault" in the stand's folder says what goes wrong.

Its first word is one of ONCE, which happens the next time it can and removes the file, or of LASTING, which lasts as long as
the file is there.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watchdog.observers import inotify_c

from inboxd.watcher import inotify, observer, watches
from inboxd.watcher import main as program

FAULT = Path(os.environ["STAND_FOLDER"]) / "fault"
ONCE = ("reader", "emitter", "handler")
LASTING = ("no watches", "no instances")

_LOOK_SECONDS = 0.05
_WATCHES_SECONDS = 1.0


def _is(fault: str) -> bool:
    try:
        return FAULT.read_text("ascii") == fault
    except FileNotFoundError:
        return False


def _raise_once(fault: str) -> None:
    if _is(fault):
        FAULT.unlink()
        raise RuntimeError(f"the {fault} was told to raise")


def _raising(fault: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any) -> Any:  # noqa: ANN401
        _raise_once(fault)
        return function(*args)

    return wrapped


def _refusing(fault: str, code: int, function: Callable[..., int]) -> Callable[..., int]:
    """Refuse as the kernel does."""

    def wrapped(*args: Any) -> int:  # noqa: ANN401
        if _is(fault):
            ctypes.set_errno(code)
            return -1
        return function(*args)

    return wrapped


def _sleep(emitter: inotify.HintEmitter, _timeout: float) -> None:
    while not emitter.stopped_event.wait(_LOOK_SECONDS):
        _raise_once("emitter")


def main() -> int:
    """Run it."""
    inotify_c.InotifyFD.handle_event = _raising("reader", inotify_c.InotifyFD.handle_event)
    inotify.HintEmitter.queue_events = _sleep
    observer.HintHandler.dispatch = _raising("handler", observer.HintHandler.dispatch)
    inotify_c.inotify_add_watch = _refusing("no watches", errno.ENOSPC, inotify_c.inotify_add_watch)
    inotify_c.inotify_init = _refusing("no instances", errno.EMFILE, inotify_c.inotify_init)
    watches.WATCH_RETRY_SECONDS = _WATCHES_SECONDS
    return program.main()


if __name__ == "__main__":
    sys.exit(main())
