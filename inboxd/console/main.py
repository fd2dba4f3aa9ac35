"""The command line: the commands that people type, their options, and their exit codes."""

import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from inboxd.broker import connection
from inboxd.config.loading import FILE_VARIABLE
from inboxd.config.settings import Settings
from inboxd.console.commands import files, logs
from inboxd.console.options import NEEDS_A_PERSON, read, settings_option
from inboxd.console.ping import ask
from inboxd.console.status import table
from inboxd.console.status.snapshot import gather
from inboxd.console.systemd import sandbox
from inboxd.console.systemd.commands import systemd
from inboxd.console.systemd.places import system
from inboxd.console.up.server_address import shown, startable
from inboxd.console.up.supervisor import BAD_SETTINGS
from inboxd.console.up.up import up as bring_up
from inboxd.errors import Finding, SettingsError, Weather
from inboxd.logs.text import plain
from inboxd.service import preflight


class Commands(click.Group):
    """Commands that may raise SettingsError: each finding is printed to stderr, and the exit code is 2; or Weather: 1."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            for finding in error.findings:
                click.echo(_on_screen(finding), err=True)
            ctx.exit(BAD_SETTINGS)
        except Weather as error:
            click.echo(plain(str(error)), err=True)
            ctx.exit(NEEDS_A_PERSON)


def _version() -> str:
    try:
        return version("inboxd")
    except PackageNotFoundError:  # run from a checkout
        return "(not installed)"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="inboxd")
def cli() -> None:
    """Drop files into a folder; each is worked on, and ends in done/ or in failed/."""


cli.add_command(logs.log)
cli.add_command(logs.trace)


@cli.command()
@settings_option
def up(named: Path | None) -> None:
    """Run everything in this terminal, with a server of its own if there is none. Ctrl-C stops it."""
    file, settings = read(named)
    sys.exit(bring_up(settings, file))


@cli.command()
@settings_option
def watch(named: Path | None) -> None:
    """Run the watcher alone: it takes files in, and leaves the work to workers that run elsewhere."""
    file, _ = read(named)
    argv = [sys.executable, "-P", "-m", "inboxd.watcher"]
    os.execve(sys.executable, argv, {**os.environ, FILE_VARIABLE: str(file)})  # noqa: S606 - no shell is wanted


@cli.command()
@settings_option
@click.option("--no-broker", is_flag=True, help="Don't ask Redis whether it is there.")
@click.option("--no-folders", is_flag=True, help="Don't look into the folders: for who may not.")
def check(named: Path | None, no_broker: bool, no_folders: bool) -> None:
    """Say what is wrong with the settings and the folders they name; exit code 2 if anything is."""
    file, settings = read(named)
    note = "" if no_broker else _broker(settings)
    if findings := [*preflight.check(settings, folders=not no_folders), *sandbox.differences(settings, system(), file)]:
        raise SettingsError(findings)
    click.echo(plain(f"{file}: ok"))
    for name, inbox in settings.inbox.items():
        click.echo(plain(f"inbox {name}: ok ({inbox.root}, handler {inbox.handler})"))
    if note:
        click.echo(plain(note))


def _broker(settings: Settings) -> str:
    """Tell whether Redis answers: worth a word, but no reason to refuse anything."""
    url, answer = connection.url(settings), ask(settings)
    hint = " (`inboxd up` starts a server there)" if startable(url) else ""
    state = "answers" if answer else f"does not answer{hint}: {answer.why}"
    return f"note: the broker at {shown(url)} {state}"


@cli.command()
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
    _, settings = read(named, asks_redis=True)
    now = gather(settings, time.time())
    if in_json:
        click.echo(json.dumps(table.as_json(now), indent=2))
    else:
        table.show(now)
    sys.exit(NEEDS_A_PERSON if now.troubles() else 0)


for _command in (files.explain, files.retry, files.audit, systemd):
    cli.add_command(_command)


def _on_screen(finding: Finding) -> str:
    return str(Finding(plain(finding.where), plain(finding.problem), plain(finding.remedy)))


def main() -> None:
    """Run the command line."""
    cli()
