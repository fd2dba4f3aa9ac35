"""`inboxd check`: find what is wrong with the settings and the folders."""

from pathlib import Path

import click

from inboxd.broker.connection import broker_url, without_password
from inboxd.config.settings import Settings
from inboxd.console.options import read_settings, settings_option
from inboxd.console.output import echo
from inboxd.console.ping import ping_broker
from inboxd.console.systemd import sandbox
from inboxd.console.systemd.install_paths import system_paths
from inboxd.console.up.server_address import parse_local_address
from inboxd.errors import SettingsError
from inboxd.service import preflight


@click.command()
@settings_option
@click.option("--no-broker", is_flag=True, help="Don't check whether Redis answers.")
@click.option("--no-folders", is_flag=True, help="Don't check the inboxes' folders: for users who may not read them.")
def check(settings_file: Path | None, no_broker: bool, no_folders: bool) -> None:
    """Check the settings and the folders. Every problem is printed; exit code 2 if one prevents a start."""
    file, settings = read_settings(settings_file)
    note = "" if no_broker else _describe_broker(settings)
    findings = [
        *preflight.find_problems(settings, folders=not no_folders),
        *sandbox.find_missing_roots(settings, system_paths(), file),
    ]
    if any(finding.blocks for finding in findings):
        raise SettingsError(findings)
    echo(f"{file}: ok")
    for name, inbox in settings.inbox.items():
        echo(f"inbox {name}: ok ({inbox.root}, handler {inbox.handler})")
    for text in (*(f"note: {finding}" for finding in findings), note):
        if text:
            echo(text)


def _describe_broker(settings: Settings) -> str:
    """Return a sentence that says whether Redis answers: a note, no problem, since Redis may be started later."""
    url, answer = broker_url(settings), ping_broker(settings)
    hint = " (`inboxd up` starts a server there)" if parse_local_address(url) else ""
    state = "answers" if answer else f"does not answer{hint}: {answer.error}"
    return f"note: the broker at {without_password(url)} {state}"
