"""`inboxd log`: show the log."""

import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from inboxd.console.log_reading import render
from inboxd.console.log_reading.records import OUTCOMES, LogFilter, LogSource, Record
from inboxd.console.log_reading.sources import LogSelection, choose_source, load_settings_if_any
from inboxd.console.one_line.file_lines import FileLines, is_shown
from inboxd.console.options import complete_inbox, files_argument, journal_option, json_option, settings_option
from inboxd.console.output import echo, print_lines, print_notice
from inboxd.console.times import TIME_FORMATS, parse_time
from inboxd.logs.text import escape

FOLLOWED_LINES = 10
TERMINAL_LINES = 100
"""Maximum lines shown on a terminal unless -n or --since is given: the latest lines are mostly the ones needed."""
ALL = sys.maxsize
EXIT_INTERRUPTED = 130


def _parse_time_option(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_time(text, datetime.now().astimezone()).timestamp()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(escape(str(error))) from None


def _parse_count_option(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    if text is None or text == "all":
        return None if text is None else ALL
    if not text.isdecimal():
        raise click.BadParameter(escape(f"{text!r} is neither a number nor all"))
    return min(int(text), ALL)


@click.command(name="log")
@files_argument
@settings_option
@journal_option
@json_option
@click.option("-f", "--follow", is_flag=True, help="Show the last lines, then each new line as it is written.")
@click.option("-v", "--verbose", is_flag=True, help="Show all lines on a terminal, too, with all their values.")
@click.option("--file", metavar="GLOB", help="Only files with this name (with a slash: path), spelt as in the log.")
@click.option("--inbox", metavar="NAME", shell_complete=complete_inbox, help="Only lines about this inbox.")
@click.option("--parcel", metavar="ID", help="Only lines about this parcel.")
@click.option("--outcome", multiple=True, type=click.Choice(list(OUTCOMES)), help="Only this outcome; may be repeated.")
@click.option("--since", metavar="T", callback=_parse_time_option, help=f"Only lines from then on: {TIME_FORMATS}.")
@click.option("--until", metavar="T", callback=_parse_time_option, help="Only lines until then.")
@click.option(
    "-n",
    "--lines",
    metavar="N",
    callback=_parse_count_option,
    help=f"Only the last N matching lines, or all; by default {FOLLOWED_LINES} with -f.",
)
def log(
    files: tuple[Path, ...], settings_file: Path | None, journal: Path | None, as_json: bool, follow: bool, verbose: bool,
    file: str | None, inbox: str | None, parcel: str | None, outcome: tuple[str, ...], since: float | None, until: float | None,
    lines: int | None,
) -> None:  # fmt: skip
    """Show the log.

    It is read from LOGFILEs and their rotated files, from log.files of the settings, from the log.file of `inboxd up`, or from
    the journal. A terminal shows one line for each file when it ends, and warnings; the last 100 unless -n or --since is given.
    With -v it shows all lines. A pipe or a file gets all matching lines.
    """
    if follow and until is not None:
        raise click.UsageError("-f never ends, and can't be combined with --until")
    selection = LogSelection(files, journal, settings_file)
    source = choose_source(selection, load_settings_if_any(selection, print_notice), print_notice)
    if lines is None and not follow and since is None and sys.stdout.isatty():
        lines, hint = TERMINAL_LINES, f"only the last {TERMINAL_LINES} lines are shown; to show all, add -n all"
    else:
        hint = ""
    if follow and lines == ALL and since is None:
        since = 0.0
    is_brief = sys.stdout.isatty() and not as_json and not verbose
    log_filter = LogFilter(since, until, inbox, file, parcel, outcome, is_shown if is_brief else None)
    print_record = _brief_printer() if is_brief else None
    show: Callable[[Record], str] = render.render_json if as_json else render.render_line
    try:
        if follow:
            count = FOLLOWED_LINES if lines is None else lines
            source.follow(log_filter, count, print_record or (lambda record: echo(show(record))))
            return
        records = _select_records(source, log_filter, ALL if lines is None else lines, hint)
        if not (_print_each(records, print_record) if print_record else print_lines(map(show, records))):
            print_notice(f"no line matches in {source.where}{'; -v shows all lines' if is_brief else ''}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _brief_printer() -> Callable[[Record], None]:
    """Return what prints a record as one line of the terminal, cut to its width."""
    console = Console(highlight=False, markup=False, emoji=False)
    file_lines = FileLines(with_date=True)

    def print_record(record: Record) -> None:
        console.print(file_lines.render(record, max(console.width - 1, 20)), soft_wrap=True)

    return print_record


def _print_each(records: Iterable[Record], print_record: Callable[[Record], None]) -> int:
    count = 0
    for count, record in enumerate(records, 1):  # noqa: B007 - the last number is the result
        print_record(record)
    return count


def _select_records(source: LogSource, log_filter: LogFilter, count: int, hint: str) -> Iterable[Record]:
    """Return the last ``count`` matching records; print the hint if there are more."""
    if count == ALL:
        return filter(log_filter.matches, source.records(log_filter))
    found = source.last(log_filter, count + 1)
    if len(found) > count and hint:
        print_notice(hint)
    return found[len(found) - min(count, len(found)) :]
