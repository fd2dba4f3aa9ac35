"""`inboxd audit`: account for every file."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from inboxd.console.audit import audit as accounting
from inboxd.console.audit.ledger import render_unaccounted
from inboxd.console.log_reading.records import LogFilter
from inboxd.console.log_reading.sources import LogSelection, choose_source
from inboxd.console.options import EXIT_ATTENTION, files_argument, journal_option, json_option, read_settings, settings_option
from inboxd.console.output import echo
from inboxd.console.times import format_local


@click.command()
@files_argument
@settings_option
@journal_option
@json_option
def audit(files: tuple[Path, ...], settings_file: Path | None, journal: Path | None, as_json: bool) -> None:
    """Account for every file. Files that are not done, failed or in flight are listed as unaccounted for.

    So are outputs of done files that were not delivered.

    The figures come from the folders and from the log, which is chosen as for `inboxd log`: LOGFILEs with their rotated and
    compressed files, log.files of the settings, the log.file of `inboxd up`, or the systemd journal. A file that was filed, and
    moved or deleted since, is accounted for. Exit code 1 if a file is unaccounted for, if the log mentions no file, or if a log
    can't be read to its end.
    """
    _, settings = read_settings(settings_file)
    unread: list[str] = []
    source = choose_source(LogSelection(files, journal, settings_file), settings, unread.append)
    report = accounting.audit(settings, source.records(LogFilter()))
    if as_json:
        echo(json.dumps({**accounting.to_json(report), "unread": unread}, indent=2))
    else:
        for line in _render_report(report, source.where):
            echo(line)
    for sentence in (*report.unavailable, *unread):
        echo(sentence, err=True)
    is_complete = report.lines and not (report.unaccounted or report.unavailable or unread or report.outputs.missing)
    sys.exit(0 if is_complete else EXIT_ATTENTION)


def _render_report(report: accounting.AuditReport, where: str) -> Iterator[str]:
    refused = f" ({report.refused} of them refused)" if report.refused else ""
    unaccounted = f" + {len(report.unaccounted)} unaccounted for" if report.unaccounted else ""
    failed = f"{report.failed} failed{refused}"
    yield f"{report.arrivals} arrived = {report.done} done + {failed} + {report.in_flight} in flight{unaccounted}"
    if report.released:
        yield f"{report.released} more were claimed and moved back to inbox/, because they were still being written"
    for entry in report.unaccounted:
        yield from render_unaccounted(entry)
    if report.outputs.made:
        outputs = report.outputs
        missing = f" + {len(outputs.missing)} missing" if outputs.missing else ""
        yield f"{outputs.made} outputs made = {outputs.delivered} delivered + {outputs.waiting} waiting{missing}"
    for lost in report.outputs.missing:
        yield f"! {lost.inbox}: {lost.file}: its output {lost.output} was not delivered, and is not in its folder"
    if report.span is None:
        yield f"no log line about a file was found in {where}; check that log.level is info or debug"
        return
    if not report.unaccounted and not report.unavailable and not report.outputs.missing:
        yield "every file is accounted for"
    first, last = map(format_local, report.span)
    yield f"based on {report.lines} log lines from {first} to {last}, in {where}"
