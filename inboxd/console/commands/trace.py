"""`inboxd trace`: show the history of one file from the log."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from inboxd.console.log_reading.sources import LogSelection, choose_source, load_settings_if_any
from inboxd.console.options import files_argument, journal_option, json_option, require_not_empty, settings_option
from inboxd.console.output import echo, print_lines, print_notice
from inboxd.console.paths import quote_for_shell
from inboxd.console.trace import render
from inboxd.console.trace.query import parse_queries, run_queries
from inboxd.logs.text import escape

EXIT_NOT_FOUND = 1


@click.command()
@click.argument("query", metavar="FILE|PARCEL|SHA256|ID", callback=require_not_empty)
@files_argument
@settings_option
@journal_option
@json_option
def trace(query: str, files: tuple[Path, ...], settings_file: Path | None, journal: Path | None, as_json: bool) -> None:
    """Show the steps of a file and their times. Exit code 1 if the log does not mention the file.

    FILE is a path below inbox/, or any path that leads into an inbox's folders. LOGFILEs are as for `inboxd log`.
    """
    selection = LogSelection(files, journal, settings_file)
    settings = load_settings_if_any(selection, print_notice)
    source = choose_source(selection, settings, print_notice)
    roots = {name: inbox.root for name, inbox in settings.inbox.items()} if settings else {}
    found = run_queries(source, parse_queries(query, roots, Path.cwd()))
    if as_json:
        echo(render.render_lives_json(found))
    else:
        print_lines(_separate(render.render_life(life) for life in found))
    if not found:
        print_notice(f"no log line mentions {escape(query)} in {source.where}")
        print_notice("the file was never claimed, its lines were deleted with old logs, or log.level was above info")
        print_notice("a path must be spelt as below inbox/, or lead into an inbox's folders")
        print_notice(f"to see where the file is now, and why: inboxd explain {quote_for_shell(os.fsencode(query))}")
        sys.exit(EXIT_NOT_FOUND)


def _separate(lives: Iterable[Iterator[str]]) -> Iterator[str]:
    """Yield the lines of all lives, with an empty line between two lives."""
    for number, lines in enumerate(lives):
        if number:
            yield ""
        yield from lines
