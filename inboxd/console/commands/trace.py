"""`inboxd trace`: one file's life, from the log."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from inboxd.console.logs.sources import LogSelection, choose_source, load_settings_if_any
from inboxd.console.options import files_argument, journal_option, json_option, require_not_empty, settings_option
from inboxd.console.output import print_lines, print_notice
from inboxd.console.paths import quote_for_shell
from inboxd.console.trace import render
from inboxd.console.trace.question import parse_queries, run_queries
from inboxd.logs.text import escape

EXIT_UNKNOWN = 1


@click.command()
@click.argument("asked", metavar="FILE|PARCEL|SHA256|ID", callback=require_not_empty)
@files_argument
@settings_option
@journal_option
@json_option
def trace(asked: str, files: tuple[Path, ...], named: Path | None, journal: Path | None, in_json: bool) -> None:
    """Tell a file's life from drop to done, with the time between the steps; exit code 1 if nothing is known of it.

    FILE is a path below inbox/, or any path that leads into an inbox's folders. LOGFILEs are as for `inboxd log`.
    """
    place = LogSelection(files, journal, named)
    settings = load_settings_if_any(place, print_notice)
    source = choose_source(place, settings, print_notice)
    roots = {name: inbox.root for name, inbox in settings.inbox.items()} if settings else {}
    found = run_queries(source, parse_queries(asked, roots, Path.cwd()))
    if in_json:
        click.echo(render.render_lives_json(found))
    else:
        print_lines(_separate(render.render_life(life) for life in found))
    if not found:
        print_notice(f"nothing is known of {escape(asked)}; looked in {source.where}")
        print_notice(
            "it was never claimed, its lines are rotated away, or log.level was above info; is it spelt as below inbox/?"
        )
        print_notice(f"where it is now, and why: inboxd explain {quote_for_shell(os.fsencode(asked))}")
        sys.exit(EXIT_UNKNOWN)


def _separate(lives: Iterable[Iterator[str]]) -> Iterator[str]:
    """Yield the lines of all lives, with an empty one between two."""
    for number, lines in enumerate(lives):
        if number:
            yield ""
        yield from lines
