"""`inboxd status`: show the state of inboxes and programs."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from inboxd.console.options import EXIT_ATTENTION, read_settings, settings_option
from inboxd.console.output import echo
from inboxd.console.status import table
from inboxd.console.status.snapshot import Status, take_snapshot
from inboxd.console.status.watch import watch_as_json, watch_status


@click.command()
@settings_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--watch", is_flag=True, help="Show the state each second, until Ctrl-C; with --json, an object on each line.")
def status(settings_file: Path | None, as_json: bool, watch: bool) -> None:
    """Show the state of all inboxes and programs; the last line says what to do next. Exit code 1 if something needs attention.

    Attention is needed when Redis does not answer; when no worker or no watcher is running; when no sweep has run for too long
    although a worker has time for it (is beat running?); when an inbox's folders are missing, full, read-only or not permitted;
    when the running watcher and the settings name different inboxes; and when a file has waited for half an hour with no other
    file to claim first, or has been claimed for longer than its time limits and retries explain. Failed files need no attention
    here: each lies in failed/ with its error note, for the person who dropped it.
    """
    file, settings = read_settings(settings_file, needs_redis=True)
    if watch:
        _watch(lambda: take_snapshot(settings, time.time(), file), as_json=as_json)
        return
    snapshot = take_snapshot(settings, time.time(), file)
    if as_json:
        echo(json.dumps(table.to_json(snapshot), indent=2))
    else:
        table.print_status(snapshot)
    sys.exit(EXIT_ATTENTION if snapshot.problems() else 0)


def _watch(take: Callable[[], Status], *, as_json: bool) -> None:
    """Show the state until Ctrl-C. Raises click.UsageError without a terminal."""
    if as_json:
        watch_as_json(take)
    elif sys.stdout.isatty():
        watch_status(take)
    else:
        raise click.UsageError("--watch needs a terminal; for programs, add --json")
