"""A terminal in memory (pyte): what a person sees of a program's output, at a given width."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyte
from pyte.screens import Char


class Terminal:
    """A screen of ``columns``, whose rows are kept when they scroll off."""

    def __init__(self, columns: int, lines: int = 24) -> None:
        self.columns = columns
        self._screen = pyte.HistoryScreen(columns, lines, history=100_000)
        self._stream = pyte.ByteStream(self._screen)

    def feed(self, data: bytes | str) -> None:
        """Show output; line feeds are as a terminal driver sends them."""
        self._stream.feed(data if isinstance(data, bytes) else data.replace("\n", "\r\n").encode())

    @property
    def rows(self) -> list[str]:
        """All rows, also those that have scrolled off, without empty ones."""
        gone = ["".join(row[column].data for column in range(self.columns)) for row in self._screen.history.top]
        return [row.rstrip() for row in (*gone, *self._screen.display) if row.strip()]

    @property
    def cells(self) -> list[list[Char]]:
        """The characters of each visible row, with their colours."""
        rows = (self._screen.buffer[number] for number in range(self._screen.lines))
        return [[row[column] for column in range(self.columns)] for row in rows]

    @property
    def is_cursor_visible(self) -> bool:
        return not self._screen.cursor.hidden

    @property
    def cursor(self) -> tuple[int, str]:
        """The cursor's column, and the text of its row."""
        return self._screen.cursor.x, self._screen.display[self._screen.cursor.y].rstrip()


class Session(Terminal):
    """A program on a terminal of its own, which is its controlling terminal."""

    def __init__(self, process: subprocess.Popen[bytes], master: int, columns: int, lines: int) -> None:
        super().__init__(columns, lines)
        self.process = process
        self._master = master

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Show the program's output until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "\n".join(self.rows)
            self.show_output(0.05)

    def wait_for_text(self, text: str, seconds: float = 60.0) -> None:
        self.wait_for(lambda: any(text in row for row in self.rows), seconds)

    def wait_for_exit(self, seconds: float = 60.0) -> int:
        """Show the rest of the output; return the exit code."""
        self.wait_for(lambda: self.process.poll() is not None, seconds)
        while self.show_output(0.05):
            pass
        return self.process.returncode

    def show_output(self, seconds: float) -> bool:
        """Show what the program writes next; return False if it writes nothing within ``seconds``, or has ended."""
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            data = os.read(self._master, 65_536)
            self.feed(data)
            return bool(data)
        return False


@contextmanager
def on_terminal(
    argv: Sequence[str], columns: int, lines: int = 24, *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Session]:
    """Run a program on a terminal, and end it."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        argv, stdin=terminal, stdout=terminal, stderr=terminal, cwd=cwd, start_new_session=True,
        env={**_without_size(os.environ), **(environment or {}), "TERM": "xterm-256color"},
        preexec_fn=_take_terminal,  # noqa: PLW1509
    )  # fmt: skip
    os.close(terminal)
    try:
        yield Session(process, master, columns, lines)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _take_terminal() -> None:
    """Make Ctrl-C a signal that ends the program, also if these tests run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _without_size(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what overrides the terminal's own size, as under pytest-xdist."""
    return {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
