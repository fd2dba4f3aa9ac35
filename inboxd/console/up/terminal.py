"""Show the lines of all programs on the terminal of `inboxd up`, in a thread that no program waits for."""

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from inboxd.console.log_reading import render
from inboxd.console.log_reading.records import Record, parse
from inboxd.console.one_line.file_lines import FileLines, is_shown
from inboxd.console.up.burst import Kind, Pace, describe_progress
from inboxd.console.up.waiting_files import WaitingFiles
from inboxd.logs import events
from inboxd.logs.text import escape

QUEUED_BYTES_MAX = 16 * 1024 * 1024
"""Maximum length of the lines that wait for the terminal: it may be stopped (Ctrl-S). Further ones are left out."""
TICK_SECONDS = 0.1
STOP_SECONDS = 2.0

_ERASE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))
_DONE = re.compile(rb'\{"timestamp": "[^"]+", "level": "info", "program": "worker", "event": "file_done", "module": "inboxd\.')
_PLAIN = re.compile(
    rb'\{"timestamp": "[^"]+", "level": "(?:info|debug)", "program": "[^"]+", "event": "(\w+)", "module": "inboxd\.'
)
_NOISE = re.compile(rb"\s*|worker: \w+ shutdown \(MainProcess\)")
"""What Celery prints beside its log."""
_READ_EVENTS = frozenset(
    name.encode()
    for name in (
        events.FILE_DONE, events.FILE_RETRIED, events.PARCEL_SPLIT, events.HANDLER_OUTPUT, events.STOPPING, events.STOPPED,
    )
)  # fmt: skip
"""Events of level info that may have a line; of all others the lines are not parsed."""


class Terminal:
    """Shows blocks of lines, one line for each file when it ends, or with ``verbose`` each line as it is logged."""

    def __init__(
        self, console: Console, lines: FileLines, files: WaitingFiles, *, verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._console = console
        self._lines = lines
        self._files = files
        self._verbose = verbose
        self._clock = clock
        self._pace = Pace()
        self._has_bar = False
        self._blocks: deque[bytes] = deque()
        self._queued_bytes = 0
        self._left_out = 0
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def show(self, lines: bytes) -> None:
        """Queue whole lines, or, if too many wait, leave them out."""
        with self._changed:
            if self._queued_bytes + len(lines) > QUEUED_BYTES_MAX:
                self._left_out += lines.count(b"\n")
                return
            self._blocks.append(lines)
            self._queued_bytes += len(lines)
            self._changed.notify()

    def stop(self) -> None:
        """Show what is queued, as far as the terminal accepts it, and end the thread with no bar left."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            while True:
                block, left_out, is_stopping = self._next()
                if block:
                    self._show_block(block)
                if left_out:
                    self._print(Text(f"… {left_out:,} lines are not shown: the terminal was too slow", style="yellow"))
                if is_stopping and not block:
                    break
                self._tick()
            self._erase_bar()
            self._print_sentences(self._pace.end())

    def _next(self) -> tuple[bytes, int, bool]:
        """Wait for lines until the next tick; return them, the number of those left out before, and whether a stop is due."""
        with self._changed:
            if not self._blocks and not self._is_stopping:
                self._changed.wait(TICK_SECONDS if self._pace.burst else None)
            block = self._blocks.popleft() if self._blocks else b""
            self._queued_bytes -= len(block)
            left_out, self._left_out = self._left_out, 0
            return block, left_out, self._is_stopping

    def _tick(self) -> None:
        """Repaint the bar; at the end of a second, show what was held back in it."""
        now = self._clock()
        if self._pace.is_window_over(now):
            self._print_sentences(self._pace.next_window(now))
        if self._pace.burst and not self._console.is_dumb_terminal and self._console.is_terminal:
            counts = self._files.counts()
            text = describe_progress(self._pace.burst, counts.in_flight, counts.waiting, self._width)
            self._erase_bar()
            self._console.print(Text(text, style="cyan"), end="", no_wrap=True, overflow="crop", crop=True)
            self._has_bar = True
        else:
            self._erase_bar()

    def _show_block(self, block: bytes) -> None:
        now = self._clock()
        if self._pace.is_window_over(now):
            self._print_sentences(self._pace.next_window(now))
        if self._verbose:
            self._console.file.write("".join(f"{_render_verbosely(line)}\n" for line in block.splitlines()))
            self._console.file.flush()
            return
        done = 0
        for line in block.splitlines():
            if self._pace.burst and _DONE.match(line):
                done += 1
                continue
            if (text := self._render(line, now)) is not None:
                self._print(text)
        self._pace.count_done(done, now)

    def _render(self, line: bytes, now: float) -> Text | None:
        """Return a line as it is shown, None if it is not."""
        if (found := _PLAIN.match(line)) and found[1] not in _READ_EVENTS:
            return None
        record = parse(line)
        if record is None:
            return None if _NOISE.fullmatch(line) else Text(escape(line))
        if record.event == events.STOPPING:
            self._has_bar = self._console.is_terminal  # a Ctrl-C is echoed
        if not is_shown(record) or not self._pace_admits(record, now):
            return None
        return self._lines.render(record, self._width)

    def _pace_admits(self, record: Record, now: float) -> bool:
        if record.event == events.HANDLER_OUTPUT:
            return True
        kinds = {events.FILE_DONE: Kind.DONE, events.FILE_FAILED: Kind.FAILED, events.FILE_REFUSED: Kind.FAILED}
        return self._pace.admit(kinds.get(record.event, Kind.OTHER), now)

    @property
    def _width(self) -> int:
        """The cells of a line: the last column stays empty, since some terminals wrap there."""
        return max(self._console.width - 1, 20)

    def _print_sentences(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self._print(Text(f"{time.strftime('%H:%M:%S')} {sentence}", style="bold"))

    def _print(self, text: Text) -> None:
        self._erase_bar()
        self._console.print(text, soft_wrap=True)

    def _erase_bar(self) -> None:
        if self._has_bar:
            self._console.control(_ERASE)
            self._has_bar = False


def _render_verbosely(line: bytes) -> str:
    record = parse(line)
    return escape(line) if record is None else render.render_line(record, with_date=False)
