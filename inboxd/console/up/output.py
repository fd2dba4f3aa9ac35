"""What `inboxd up` does with the log lines of its programs: a file, and the terminal or whatever stderr is."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console

from inboxd.config.settings import Settings
from inboxd.console.one_line.file_lines import FileLines
from inboxd.console.up.child_process import OpenOutput
from inboxd.console.up.collector import Collector, pass_to_stderr
from inboxd.console.up.log_file import open_log_file
from inboxd.console.up.terminal import Terminal
from inboxd.console.up.waiting_files import WaitingFiles
from inboxd.logs.setup import choose_format, configure_logging


@contextlib.contextmanager
def collecting(settings: Settings, *, verbose: bool) -> Iterator[OpenOutput | None]:
    """Configure logging, and collect the lines of all programs in log.file and on stderr until the end of the block.

    Yield what makes a pipe for a program; None if the programs write to stderr, or to the journal, themselves. A terminal
    gets a line for each file, with ``verbose`` all lines. Raises SettingsError if another process writes to log.file.
    """
    line_format = choose_format(settings.log, os.environ)
    is_raw = line_format == "json"
    file = None if line_format == "journal" else open_log_file(settings.log)
    if line_format == "journal" or (is_raw and file is None):
        configure_logging(settings.log, program="up", environment=os.environ)
        yield None
        return
    terminal = None if is_raw else _make_terminal(settings, verbose=verbose)
    collector = Collector(file, terminal.show if terminal else pass_to_stderr)
    collector.start()
    if terminal:
        terminal.start()
    try:
        with _own_stream(collector) as (stream, environment):
            configure_logging(settings.log, program="up", environment=environment, stream=stream)
            yield collector.open_output
    finally:
        collector.stop()
        if terminal:
            terminal.stop()
        if file:
            file.close()


def _make_terminal(settings: Settings, *, verbose: bool) -> Terminal:
    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    return Terminal(console, FileLines(settings.inbox), WaitingFiles(settings), verbose=verbose or not console.is_terminal)


@contextlib.contextmanager
def _own_stream(collector: Collector) -> Iterator[tuple[TextIO, dict[str, str]]]:
    """Yield a stream for this process's own lines, and the environment that names its pipe."""
    with collector.open_output() as pipe:
        stream = os.fdopen(os.dup(pipe.fd), "w", encoding="utf-8", errors="backslashreplace")
        environment = dict(pipe.environment)
    with stream:
        yield stream, environment
