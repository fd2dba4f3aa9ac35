"""The commands about single files: why one is still here, and putting failed ones back."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from inboxd.config.settings import Log, Settings
from inboxd.console.audit import audit as accounting
from inboxd.console.audit.ledger import shown as shown_entry
from inboxd.console.commands.retry import Choice, shown
from inboxd.console.commands.retry import retry as put_back
from inboxd.console.explain import explain as explaining
from inboxd.console.logs.records import Wanted
from inboxd.console.logs.sources import Named, choose
from inboxd.console.options import NEEDS_A_PERSON, files_argument, journal_option, json_option, not_empty, read, settings_option
from inboxd.console.paths import as_typed
from inboxd.console.times import local
from inboxd.errors import Finding, SettingsError
from inboxd.fs.syscalls import ignore_lease_breaks
from inboxd.logs import events
from inboxd.logs.text import plain


@click.command()
@settings_option
@click.argument("path", callback=not_empty)
@json_option
def explain(named: Path | None, path: str, in_json: bool) -> None:
    """Say why a file is (still) where it is: waiting and until when, ignored by which rule, claimed, done, failed and why.

    PATH is absolute, or relative to the current folder or to an inbox. It only looks. Exit code 1 if nothing is known of it.
    """
    _, settings = read(named, asks_redis=True)
    ignore_lease_breaks()
    found = explaining.explain(settings, path)
    if in_json:
        click.echo(
            json.dumps({"path": plain(os.fsencode(path)), "found": [explaining.as_json(one) for one in found]}, indent=2)
        )
    for line in [] if in_json else [line for one in found for line in explaining.shown(one)] or _nothing(settings, path):
        click.echo(line)
    sys.exit(0 if found else NEEDS_A_PERSON)


def _nothing(settings: Settings, path: str) -> list[str]:
    shown_path = plain(path)
    roots = ", ".join(plain(bytes(inbox.root)) for inbox in settings.inbox.values())
    return [
        f"{shown_path}: nothing is known of it",
        f"  it is not in inbox/, claimed/, done/ or failed/ of {roots}",
        f"  what became of it, the log may tell: inboxd trace {as_typed(os.fsencode(path))}",
    ]


@click.command()
@settings_option
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--inbox", "inboxes", multiple=True, metavar="NAME", help="All that has failed in this inbox; may be repeated.")
@click.option("--error", metavar="GLOB", help='All whose note gives a reason that fits, such as "*connection refused*".')
@click.option("--all", "everything", is_flag=True, help="All that has failed in all inboxes.")
@click.option("--dry-run", is_flag=True, help="Say what would be put back; change nothing.")
def retry(
    named: Path | None, files: tuple[str, ...], inboxes: tuple[str, ...], error: str | None, everything: bool, dry_run: bool
) -> None:
    """Put failed files back into inbox/, under the path that they were dropped with.

    FILE is a path in failed/ (or its note, or a sub-folder there), absolute or relative. Nothing is overwritten. If a file
    fails again, its note tells of the earlier failures. Exit code 1 if nothing, or not everything, could be put back.
    """
    _, settings = read(named)
    if bool(files) == bool(inboxes or error or everything):
        remedy = "give files, or any of --inbox, --error and --all"
        raise SettingsError([Finding("inboxd retry", "it is not clear what is to be put back", remedy)])
    _log_for_programs(settings)
    put = kept = 0
    for result in put_back(settings, Choice(files, inboxes, error or "*"), dry_run=dry_run):
        click.echo(shown(result), err=result.put is None)
        put += result.put is not None
        kept += result.put is None
    click.echo(f"{put} {'would be ' if dry_run else ''}put back" + (f", {kept} not" if kept else ""))
    sys.exit(0 if put and not kept else NEEDS_A_PERSON)


@click.command()
@files_argument
@settings_option
@journal_option
@json_option
def audit(files: tuple[Path, ...], named: Path | None, journal: Path | None, in_json: bool) -> None:
    """Account for every file: arrivals = done + failed + in flight, or which file nobody knows of.

    It goes by the folders, and by the log, which it finds where `inboxd log` does: LOGFILEs with their rotated and compressed
    ones, log.files of the settings, or the journal. What was filed, and has been moved or deleted since, is accounted for.
    Exit code 1 if a file is not, or if the log has no word of any file, or can't be read to its end.
    """
    _, settings = read(named)
    unread: list[str] = []
    source = choose(Named(files, journal, named), settings, unread.append)
    report = accounting.audit(settings, source.records(Wanted()))
    if in_json:
        click.echo(json.dumps({**accounting.as_json(report), "unread": unread}, indent=2))
    else:
        for line in _sums(report, source.where):
            click.echo(plain(line))
    for sentence in unread:
        click.echo(sentence, err=True)
    sys.exit(NEEDS_A_PERSON if report.unaccounted or unread or not report.lines else 0)


def _sums(report: accounting.Report, where: str) -> Iterator[str]:
    refused = f" ({report.refused} of them refused)" if report.refused else ""
    nowhere = f" + {len(report.unaccounted)} unaccounted for" if report.unaccounted else ""
    failed = f"{report.failed} failed{refused}"
    yield f"{report.arrived} arrived = {report.done} done + {failed} + {report.in_flight} in flight{nowhere}"
    if report.given_back:
        yield f"{report.given_back} more were given back to inbox/, because they were not complete after all"
    for entry in report.unaccounted:
        yield from shown_entry(entry)
    if report.span is None:
        yield f"no line about a file was found in {where}: was log.level above info?"
        return
    if not report.unaccounted:
        yield "every file is accounted for"
    first, last = map(local, report.span)
    yield f"by {report.lines} lines from {first} to {last}, in {where}"


def _log_for_programs(settings: Settings) -> None:
    """Log each move, as every program does; on a terminal the command's own words are enough."""
    quiet = settings.log.format == "auto" and sys.stderr.isatty()
    events.configure(Log(level="error") if quiet else settings.log, program="retry")
