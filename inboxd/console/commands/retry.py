"""`inboxd retry`: move failed files back into inbox/."""

import sys
from pathlib import Path

import click

from inboxd.config.settings import Settings
from inboxd.config.tables import Log
from inboxd.console.options import EXIT_ATTENTION, complete_inbox, read_settings, settings_option
from inboxd.console.output import echo
from inboxd.console.requeue import Selection, render_result, requeue_selected
from inboxd.errors import Finding, SettingsError
from inboxd.fs.syscalls import ignore_lease_breaks
from inboxd.logs.setup import configure_logging


@click.command()
@settings_option
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option(
    "--inbox",
    "inboxes",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_inbox,
    help="All failed files of this inbox; may be repeated.",
)
@click.option("--error", metavar="GLOB", help='All files whose error note has a reason like "*connection refused*".')
@click.option("--all", "is_all", is_flag=True, help="All failed files of all inboxes.")
@click.option("--dry-run", is_flag=True, help="Print what would be moved; change nothing.")
def retry(
    settings_file: Path | None, files: tuple[str, ...], inboxes: tuple[str, ...], error: str | None, is_all: bool, dry_run: bool
) -> None:
    """Move failed files back into inbox/. Each gets the path under which it was dropped, or the next free name.

    FILE is a path in failed/ (a file, its error note or a sub-folder), absolute or relative. Nothing is overwritten. If a file
    fails again, its note lists the earlier failures. Exit code 1 if nothing was moved, or if a file or an
    inbox could not be reached.
    """
    _, settings = read_settings(settings_file)
    if bool(files) == bool(inboxes or error or is_all):
        remedy = "give either files, or any of --inbox, --error and --all"
        raise SettingsError([Finding("inboxd retry", "the files to move are not specified, or specified twice", remedy)])
    ignore_lease_breaks()  # a move to another mount holds a lease
    _configure_logging(settings)
    moved = kept = 0
    unavailable: list[str] = []
    for result in requeue_selected(settings, Selection(files, inboxes, error or "*"), unavailable.append, dry_run=dry_run):
        echo(render_result(result), err=result.new_path is None)
        moved += result.new_path is not None
        kept += result.new_path is None
    echo(f"{moved} {'would be ' if dry_run else ''}moved back to inbox/" + (f", {kept} not" if kept else ""))
    for sentence in unavailable:
        echo(sentence, err=True)
    sys.exit(0 if moved and not kept and not unavailable else EXIT_ATTENTION)


def _configure_logging(settings: Settings) -> None:
    """Log each move as every program does; on a terminal only errors, since the command prints each move itself."""
    is_interactive = settings.log.format == "auto" and sys.stderr.isatty()
    configure_logging(Log(level="error") if is_interactive else settings.log, program="retry")
