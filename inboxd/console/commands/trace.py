"""`inboxd trace`: one file's life, from the log."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from inboxd.console.logs.sources import Named, choose, settings_if_any
from inboxd.console.options import files_argument, journal_option, json_option, not_empty, settings_option
from inboxd.console.output import print_lines, print_notice
from inboxd.console.paths import as_typed
from inboxd.console.trace import render
from inboxd.console.trace.question import answer, questions
from inboxd.logs.text import escape

NOT_KNOWN = 1


@click.command()
@click.argument("asked", metavar="FILE|PARCEL|SHA256|ID", callback=not_empty)
@files_argument
@settings_option
@journal_option
@json_option
def trace(asked: str, files: tuple[Path, ...], named: Path | None, journal: Path | None, in_json: bool) -> None:
    """Tell a file's life from drop to done, with the time between the steps; exit code 1 if nothing is known of it.

    FILE is a path below inbox/, or any path that leads into an inbox's folders. LOGFILEs are as for `inboxd log`.
    """
    place = Named(files, journal, named)
    settings = settings_if_any(place, print_notice)
    source = choose(place, settings, print_notice)
    roots = {name: inbox.root for name, inbox in settings.inbox.items()} if settings else {}
    found = answer(source, questions(asked, roots, Path.cwd()))
    if in_json:
        click.echo(render.lives_as_json(found))
    else:
        print_lines(_told(render.life(life) for life in found))
    if not found:
        print_notice(f"nothing is known of {escape(asked)}; looked in {source.where}")
        print_notice(
            "it was never claimed, its lines are rotated away, or log.level was above info; is it spelt as below inbox/?"
        )
        print_notice(f"where it is now, and why: inboxd explain {as_typed(os.fsencode(asked))}")
        sys.exit(NOT_KNOWN)


def _told(lives: Iterable[Iterator[str]]) -> Iterator[str]:
    """Yield the lines of all lives, with an empty one between two."""
    for number, lines in enumerate(lives):
        if number:
            yield ""
        yield from lines
