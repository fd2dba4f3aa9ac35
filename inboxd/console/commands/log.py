"""`inboxd log`: show the log."""

import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import click

from inboxd.console.log_reading import render
from inboxd.console.log_reading.records import OUTCOMES, LogFilter, LogSource, Record
from inboxd.console.log_reading.sources import LogSelection, choose_source, load_settings_if_any
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
    files: tuple[Path, ...], settings_file: Path | None, journal: Path | None, as_json: bool, follow: bool,
    file: str | None, inbox: str | None, parcel: str | None, outcome: tuple[str, ...], since: float | None, until: float | None,
    lines: int | None,
) -> None:  # fmt: skip
    """Show the log. It is read from LOGFILEs and their rotated files, from log.files of the settings, or from the journal.

    A terminal shows the last 100 matching lines unless -n or --since is given; a pipe or a file gets all matching lines.
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
    log_filter = LogFilter(since, until, inbox, file, parcel, outcome)
    show: Callable[[Record], str] = render.render_json if as_json else render.render_line
    try:
        if follow:
            source.follow(log_filter, FOLLOWED_LINES if lines is None else lines, lambda record: echo(show(record)))
        elif not print_lines(map(show, _select_records(source, log_filter, ALL if lines is None else lines, hint))):
            print_notice(f"no line matches in {source.where}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _select_records(source: LogSource, log_filter: LogFilter, count: int, hint: str) -> Iterable[Record]:
    """Return the last ``count`` matching records; print the hint if there are more."""
    if count == ALL:
        return filter(log_filter.matches, source.records(log_filter))
    found = source.last(log_filter, count + 1)
    if len(found) > count and hint:
        print_notice(hint)
    return found[len(found) - min(count, len(found)) :]
