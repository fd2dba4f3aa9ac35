"""What a person sees of `inboxd up`: single files, bursts, and noise, on a terminal's screen."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support.live.log_lines import NOON, line, parcel, table
from support.terminal import Terminal as Screen

from inboxd.config.settings import Settings
from inboxd.console.one_line.file_lines import FileLines
from inboxd.console.up.terminal import QUEUED_BYTES_MAX, Terminal
from inboxd.console.up.waiting_files import WaitingFiles
from inboxd.service import preflight

P = parcel(1, NOON)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Shown:
    """A Terminal of `up` whose output is shown on a screen; time passes when a test says so."""

    def __init__(self, settings: Settings, columns: int, *, verbose: bool = False, kind: str = "xterm") -> None:
        self.output = io.StringIO()
        self.clock = Clock()
        console = Console(
            file=self.output, width=columns, force_terminal=True, highlight=False, markup=False, color_system="standard",
            _environ={"TERM": kind},
        )  # fmt: skip
        self.terminal = Terminal(console, FileLines(["drop"]), WaitingFiles(settings), verbose=verbose, clock=self.clock)
        self.terminal.start()
        self._columns = columns

    def screen(self) -> Screen:
        screen = Screen(self._columns)
        screen.feed(self.output.getvalue())
        return screen

    def wait_for(self, text: str) -> None:
        eventually(lambda: text in "\n".join(self.screen().rows))


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.01)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(inbox={"drop": {"root": str(tmp_path / "drop")}})
    preflight.create_folders(made)
    return made


def done(number: int, **keys: object) -> bytes:
    return line("file_done", NOON + number, file=f"{number}.pdf", parcel=P, size=10, took_ms=1.0, **keys)


def failed(number: int) -> bytes:
    return line("file_failed", NOON + number, file=f"{number}.doc", parcel=P, reason="only PDF files", took_ms=1.0)


def test_a_file_is_one_line_when_it_ends_and_its_other_lines_are_not_shown(settings: Settings) -> None:
    shown = Shown(settings, 80)

    shown.terminal.show(line("file_claimed", NOON, file="a.pdf") + line("file_handled", NOON, file="a.pdf") + done(1))
    shown.terminal.stop()

    (row,) = shown.screen().rows
    assert "drop 1.pdf" in row
    assert row.endswith("done")


def test_with_verbose_all_lines_are_shown_as_they_are_logged(settings: Settings) -> None:
    shown = Shown(settings, 300, verbose=True)

    shown.terminal.show(line("file_claimed", NOON, file="a.pdf") + b"no log line \x1b[2J\n")
    shown.terminal.stop()

    first, second = shown.screen().rows
    assert "file_claimed drop:a.pdf" in first
    assert second == "no log line \\x1b[2J"


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_five_thousand_files_at_once_are_a_bar_and_a_summary(settings: Settings, columns: int) -> None:
    for number in range(7):
        (Path(settings.inbox["drop"].root) / "inbox" / f"waits{number}").touch()
    shown = Shown(settings, columns)

    for begin in range(0, 5000, 500):
        shown.terminal.show(b"".join(map(done, range(begin, begin + 500))))
    shown.terminal.show(b"".join(map(failed, range(200))))
    eventually(lambda: "7 waiting" in shown.screen().cursor[1])
    bar = shown.screen().cursor[1]
    shown.clock.now += 1.0
    shown.wait_for("… and 197 more failed")
    shown.clock.now += 1.0
    shown.wait_for("files/s)")
    shown.terminal.stop()

    screen = shown.screen()
    assert bar.startswith("5,000 done, 200 failed, 0 in flight, 7 waiting")
    assert len(bar) < columns
    assert len(screen.rows) == 20 + 3 + 2  # files, failures, sentences
    assert "5,000 done, 200 failed in" in screen.rows[-1]
    assert "waiting" not in "\n".join(screen.rows)
    assert screen.cursor[0] == 0
    assert screen.is_cursor_visible


def test_a_stop_within_a_burst_leaves_no_bar(settings: Settings) -> None:
    shown = Shown(settings, 80)
    shown.terminal.show(b"".join(map(done, range(300))))
    eventually(lambda: "waiting" in shown.screen().cursor[1])

    shown.terminal.stop()

    assert "waiting" not in "\n".join(shown.screen().rows)
    assert "300 done in" in shown.screen().rows[-1]


def test_where_no_cursor_can_be_moved_a_burst_has_its_summary_only(settings: Settings) -> None:
    shown = Shown(settings, 80, kind="dumb")

    shown.terminal.show(b"".join(map(done, range(300))))
    shown.terminal.stop()

    assert "\r" not in shown.output.getvalue()
    assert len(shown.output.getvalue().splitlines()) == 21


def test_warnings_tracebacks_and_what_handlers_print_are_shown_and_celery_s_noise_is_not(settings: Settings) -> None:
    shown = Shown(settings, 100)
    printed = {**table("file_done", NOON, file="a"), "event": "handler_output", "line": "hello"}

    shown.terminal.show(line("parcel_crashed", NOON, crashes=1) + b"\nworker: Warm shutdown (MainProcess)\nTraceback \x07\n")
    shown.terminal.show(json.dumps(printed).encode() + b"\n")
    shown.terminal.stop()

    rows = shown.screen().rows
    assert ["parcel_crashed" in rows[0], rows[1], rows[2].endswith("a | hello"), len(rows)] == [
        True,
        "Traceback \\x07",
        True,
        3,
    ]


def test_a_library_s_line_that_is_called_as_an_event_is_no_file(settings: Settings) -> None:
    shown = Shown(settings, 100)

    shown.terminal.show(json.dumps({**table("file_done", NOON), "module": "someones.library"}).encode() + b"\n" + done(1))
    shown.terminal.stop()

    assert len(shown.screen().rows) == 1


def test_lines_that_a_stopped_terminal_does_not_take_are_left_out_and_counted(settings: Settings) -> None:
    console = Console(file=io.StringIO(), width=100)
    terminal = Terminal(console, FileLines(), WaitingFiles(settings))
    block = done(1) * (QUEUED_BYTES_MAX // len(done(1)))

    terminal.show(block)  # its thread does not take any
    terminal.show(done(2) * 50)
    terminal.start()
    terminal.stop()

    output = console.file
    assert isinstance(output, io.StringIO)
    eventually(lambda: "50 lines are not shown" in output.getvalue())


def test_waiting_and_claimed_files_are_counted_in_the_background(settings: Settings) -> None:
    root = Path(settings.inbox["drop"].root)
    (root / "inbox" / "a").touch()
    files = WaitingFiles(settings)

    eventually(lambda: files.counts().waiting == 1)

    assert files.counts().in_flight == 0


def test_an_inbox_that_can_not_be_read_counts_as_empty(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "drop" / "inbox").rmdir()
    files = WaitingFiles(settings)

    files.counts()

    eventually(lambda: files._thread is not None and not files._thread.is_alive())  # noqa: SLF001 - it says nothing
    assert files.counts().waiting == 0
