"""The commands about single files: why one is still here, and putting failed ones back."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from console import audit as ledger
from console import explain as why
from console.ledger import shown as shown_entry
from console.loglines import of_parcels
from console.options import NEEDS_A_PERSON, read, settings_option
from console.retry import Choice, shown
from console.retry import retry as put_back
from spool import log
from spool.disk import ignore_lease_breaks
from spool.errors import Finding, SettingsError
from spool.notes import plain
from spool.settings import Log, Settings


@click.command()
@settings_option
@click.argument("path")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object instead of sentences.")
def explain(named: Path | None, path: str, in_json: bool) -> None:
    """Say why a file is (still) where it is: waiting and until when, ignored by which rule, claimed, done, failed and why.

    PATH is absolute, or relative to the current folder or to an inbox. It only looks. Exit code 1 if nothing is known of it.
    """
    _, settings = read(named)
    ignore_lease_breaks()
    found = why.explain(settings, path)
    if in_json:
        click.echo(json.dumps({"path": plain(os.fsencode(path)), "found": [why.as_json(one) for one in found]}, indent=2))
    for line in [] if in_json else [line for one in found for line in why.shown(one)] or _nothing(settings, path):
        click.echo(line)
    sys.exit(0 if found else NEEDS_A_PERSON)


def _nothing(settings: Settings, path: str) -> list[str]:
    shown_path = plain(os.fsencode(path))
    roots = ", ".join(plain(bytes(inbox.root)) for inbox in settings.inbox.values())
    return [
        f"{shown_path}: nothing is known of it",
        f"  it is not in inbox/, claimed/, done/ or failed/ of {roots}",
        f"  what became of it, the log may tell: inboxd trace {shown_path}",
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
@settings_option
@click.argument("logs", nargs=-1, required=True, metavar="LOG...")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object instead of sentences.")
def audit(named: Path | None, logs: tuple[str, ...], in_json: bool) -> None:
    """Account for every file: arrivals = done + failed + in flight, or which file nobody knows of.

    LOG are the JSON logs of watcher and workers, also compressed (.gz, .xz), in any order; "-" is standard input. A file that
    was filed, and has been moved or deleted since, is accounted for. Exit code 1 if a file is not.
    """
    _, settings = read(named)
    try:
        report = ledger.audit(settings, of_parcels(logs))
    except OSError as error:
        raise SettingsError(
            [Finding(str(error.filename or "audit"), str(error.strerror), "name logs that can be read")]
        ) from None
    if in_json:
        click.echo(json.dumps(ledger.as_json(report), indent=2))
    else:
        for line in _sums(report):
            click.echo(plain(line))
    sys.exit(NEEDS_A_PERSON if report.unaccounted else 0)


def _sums(report: ledger.Report) -> Iterator[str]:
    refused = f" ({report.refused} of them refused)" if report.refused else ""
    nowhere = f" + {len(report.unaccounted)} unaccounted for" if report.unaccounted else ""
    failed = f"{report.failed} failed{refused}"
    yield f"{report.arrived} arrived = {report.done} done + {failed} + {report.in_flight} in flight{nowhere}"
    if report.given_back:
        yield f"{report.given_back} more were given back to inbox/, because they were not complete after all"
    for entry in report.unaccounted:
        yield from shown_entry(entry)
    if not report.unaccounted:
        yield "every file is accounted for"


def _log_for_programs(settings: Settings) -> None:
    """Log each move, as every program does; on a terminal the command's own words are enough."""
    quiet = settings.log.format == "auto" and sys.stderr.isatty()
    log.configure(Log(level="error") if quiet else settings.log, program="retry")
