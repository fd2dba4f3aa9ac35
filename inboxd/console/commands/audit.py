"""`inboxd audit`: accounting for every file."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from inboxd.console.audit import audit as accounting
from inboxd.console.audit.ledger import render_unaccounted as shown_entry
from inboxd.console.logs.records import LogFilter
from inboxd.console.logs.sources import LogSelection, choose_source
from inboxd.console.options import EXIT_ATTENTION, files_argument, journal_option, json_option, read_settings, settings_option
from inboxd.console.times import format_local
from inboxd.logs.text import escape


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
    _, settings = read_settings(named)
    unread: list[str] = []
    source = choose_source(LogSelection(files, journal, named), settings, unread.append)
    report = accounting.audit(settings, source.records(LogFilter()))
    if in_json:
        click.echo(json.dumps({**accounting.to_json(report), "unread": unread}, indent=2))
    else:
        for line in _render_report(report, source.where):
            click.echo(escape(line))
    for sentence in unread:
        click.echo(sentence, err=True)
    sys.exit(EXIT_ATTENTION if report.unaccounted or unread or not report.lines else 0)


def _render_report(report: accounting.AuditReport, where: str) -> Iterator[str]:
    refused = f" ({report.refused} of them refused)" if report.refused else ""
    nowhere = f" + {len(report.unaccounted)} unaccounted for" if report.unaccounted else ""
    failed = f"{report.failed} failed{refused}"
    yield f"{report.arrivals} arrived = {report.done} done + {failed} + {report.in_flight} in flight{nowhere}"
    if report.released:
        yield f"{report.released} more were given back to inbox/, because they were not complete after all"
    for entry in report.unaccounted:
        yield from shown_entry(entry)
    if report.span is None:
        yield f"no line about a file was found in {where}: was log.level above info?"
        return
    if not report.unaccounted:
        yield "every file is accounted for"
    first, last = map(format_local, report.span)
    yield f"by {report.lines} lines from {first} to {last}, in {where}"
