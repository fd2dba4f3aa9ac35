"""The commands that read the log: `inboxd log` and `inboxd trace`."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

import click

from console import shown
from console.locating import as_typed
from console.moments import FORMS, moment
from console.options import files_argument, journal_option, json_option, not_empty, settings_option
from console.question import answer, questions
from console.records import OUTCOMES, Record, Wanted
from console.sources import Named, choose, settings_if_any
from spool.notes import plain

FOLLOWED_LINES = 10
NOT_KNOWN = 1
INTERRUPTED = 130


def _since(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else moment(text, datetime.now().astimezone()).timestamp()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(plain(str(error))) from None


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
@click.option("--since", metavar="T", callback=_since, help=f"Only lines since then: {FORMS}.")
def log(
    files: tuple[Path, ...], named: Path | None, journal: Path | None, in_json: bool, follow: bool,
    file: str | None, inbox: str | None, parcel: str | None, outcome: tuple[str, ...], since: float | None,
) -> None:  # fmt: skip
    """Show inboxd's log: from LOGFILEs (rotated and compressed ones are found), log.files of the settings, or the journal."""
    asked = Named(files, journal, named)
    source = choose(asked, settings_if_any(asked, _tell), _tell)
    wanted = Wanted(since, inbox, file, parcel, outcome)
    render: Callable[[Record], str] = shown.as_json if in_json else shown.line
    try:
        if follow:
            source.follow(wanted, FOLLOWED_LINES, lambda record: click.echo(render(record)))
        else:
            _print(render(record) for record in source.records(wanted) if wanted.admits(record))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


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
    settings = settings_if_any(place, _tell)
    source = choose(place, settings, _tell)
    roots = {name: inbox.root for name, inbox in settings.inbox.items()} if settings else {}
    found = answer(source, questions(asked, roots, Path.cwd()))
    if in_json:
        click.echo(shown.lives_as_json(found))
    else:
        _print(_told(shown.life(life) for life in found))
    if not found:
        _tell(f"nothing is known of {plain(asked)}; looked in {source.where}")
        _tell("it was never claimed, its lines are rotated away, or log.level was above info; is it spelt as below inbox/?")
        _tell(f"where it is now, and why: inboxd explain {as_typed(os.fsencode(asked))}")
        sys.exit(NOT_KNOWN)


def _told(lives: Iterable[Iterator[str]]) -> Iterator[str]:
    """Yield the lines of all lives, with an empty one between two."""
    for number, lines in enumerate(lives):
        if number:
            yield ""
        yield from lines


def _print(lines: Iterable[str]) -> None:
    """Print many lines: the screen is told once for some of them."""
    some: list[str] = []
    for line in lines:
        some.append(line)
        if len(some) >= 500:  # noqa: PLR2004
            click.echo("\n".join(some))
            some = []
    if some:
        click.echo("\n".join(some))


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)
