"""`inboxd log`: the log, read back."""

import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import click

from inboxd.console.logs import render
from inboxd.console.logs.records import OUTCOMES, LogFilter, LogSource, Record
from inboxd.console.logs.sources import LogSelection, choose_source, load_settings_if_any
from inboxd.console.options import files_argument, journal_option, json_option, settings_option
from inboxd.console.output import print_lines, print_notice
from inboxd.console.times import TIME_FORMATS, parse_time
from inboxd.logs.text import escape

FOLLOWED_LINES = 10
TERMINAL_LINES = 100
"""So many lines a terminal is shown, if nobody has asked for more: what one looks for is mostly at the end."""
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
@click.option("-f", "--follow", is_flag=True, help="Show the last lines, then each one as it comes.")
@click.option(
    "--file", metavar="GLOB", help="Only of files with such a name (with a slash: such a path), as the log spells it."
)
@click.option("--inbox", metavar="NAME", help="Only of this inbox.")
@click.option("--parcel", metavar="ID", help="Only of this parcel.")
@click.option("--outcome", multiple=True, type=click.Choice(list(OUTCOMES)), help="Only files that ended so; may be repeated.")
@click.option("--since", metavar="T", callback=_parse_time_option, help=f"Only lines since then: {TIME_FORMATS}.")
@click.option("--until", metavar="T", callback=_parse_time_option, help="Only lines until then.")
@click.option(
    "-n",
    "--lines",
    metavar="N",
    callback=_parse_count_option,
    help=f"Only the last N lines that fit, or all; with -f {FOLLOWED_LINES} if not told.",
)
def log(
    files: tuple[Path, ...], named: Path | None, journal: Path | None, in_json: bool, follow: bool,
    file: str | None, inbox: str | None, parcel: str | None, outcome: tuple[str, ...], since: float | None, until: float | None,
    lines: int | None,
) -> None:  # fmt: skip
    """Show inboxd's log: from LOGFILEs (rotated and compressed ones are found), log.files of the settings, or the journal.

    On a terminal, the last 100 lines that fit, unless -n or --since is given; all of them into a pipe or a file.
    """
    if follow and until is not None:
        raise click.UsageError("-f goes on for ever: it can't be given together with --until")
    asked = LogSelection(files, journal, named)
    source = choose_source(asked, load_settings_if_any(asked, print_notice), print_notice)
    if lines is None and not follow and since is None and sys.stdout.isatty():
        lines, hint = TERMINAL_LINES, f"the last {TERMINAL_LINES} lines; for all: -n all"
    else:
        hint = ""
    if follow and lines == ALL and since is None:
        since = 0.0
    wanted = LogFilter(since, until, inbox, file, parcel, outcome)
    show: Callable[[Record], str] = render.render_json if in_json else render.render_line
    try:
        if follow:
            source.follow(wanted, FOLLOWED_LINES if lines is None else lines, lambda record: click.echo(show(record)))
        elif not print_lines(map(show, _select_records(source, wanted, ALL if lines is None else lines, hint))):
            print_notice(f"no line fits; looked in {source.where}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _select_records(source: LogSource, wanted: LogFilter, count: int, hint: str) -> Iterable[Record]:
    """Return the last so many wanted records; the hint is told if there are more."""
    if count == ALL:
        return filter(wanted.matches, source.records(wanted))
    found = source.last(wanted, count + 1)
    if len(found) > count and hint:
        print_notice(hint)
    return found[len(found) - min(count, len(found)) :]
