"""`inboxd retry`: putting failed files back."""

import sys
from pathlib import Path

import click

from inboxd.config.settings import Log, Settings
from inboxd.console.options import EXIT_ATTENTION, read_settings, settings_option
from inboxd.console.requeue import Selection, render_result, requeue_selected
from inboxd.errors import Finding, SettingsError
from inboxd.logs.setup import configure_logging


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
    _, settings = read_settings(named)
    if bool(files) == bool(inboxes or error or everything):
        remedy = "give files, or any of --inbox, --error and --all"
        raise SettingsError([Finding("inboxd retry", "it is not clear what is to be put back", remedy)])
    _configure_logging(settings)
    put = kept = 0
    for result in requeue_selected(settings, Selection(files, inboxes, error or "*"), dry_run=dry_run):
        click.echo(render_result(result), err=result.new_path is None)
        put += result.new_path is not None
        kept += result.new_path is None
    click.echo(f"{put} {'would be ' if dry_run else ''}put back" + (f", {kept} not" if kept else ""))
    sys.exit(0 if put and not kept else EXIT_ATTENTION)


def _configure_logging(settings: Settings) -> None:
    """Log each move, as every program does; on a terminal the command's own words are enough."""
    quiet = settings.log.format == "auto" and sys.stderr.isatty()
    configure_logging(Log(level="error") if quiet else settings.log, program="retry")
