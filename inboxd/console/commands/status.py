"""`inboxd status`: what is going on."""

import json
import sys
import time
from pathlib import Path

import click

from inboxd.console.options import EXIT_ATTENTION, read_settings, settings_option
from inboxd.console.status import table
from inboxd.console.status.snapshot import take_snapshot


@click.command()
@settings_option
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object instead of a table.")
def status(named: Path | None, in_json: bool) -> None:
    """Show what waits, what is worked on, and who is there; exit code 1 if something needs a person.

    A person is needed when Redis does not answer; when no worker or no watcher gives a sign of life; when no sweep has run for
    too long though a worker has time for it (is beat there?); when an inbox's folders are missing, full, read-only or not
    permitted; when the running watcher and the settings name different inboxes; and when a file waits for half an hour with
    nothing before it, or is claimed for longer than its time limits and retries explain. Failed files are no such thing: each
    has its note, and waits in failed/ for whoever dropped it.
    """
    _, settings = read_settings(named, needs_redis=True)
    now = take_snapshot(settings, time.time())
    if in_json:
        click.echo(json.dumps(table.to_json(now), indent=2))
    else:
        table.print_status(now)
    sys.exit(EXIT_ATTENTION if now.problems() else 0)
