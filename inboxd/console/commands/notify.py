"""`inboxd notify`: try the notifications."""

import os
import sys
from pathlib import Path

import click

from inboxd.config.settings import Settings
from inboxd.console.options import EXIT_ATTENTION, read_settings, settings_option
from inboxd.console.output import echo
from inboxd.errors import Finding, SettingsError
from inboxd.notify.addresses import labels, read_addresses
from inboxd.notify.messages import write_test
from inboxd.notify.sender import NOT_INSTALLED, Sender, is_installed


@click.group()
def notify() -> None:
    """Try the notifications of failed, stuck, paused and recovered inboxes."""


@notify.command()
@settings_option
@click.option("--inbox", metavar="NAME", help="Only to the URLs of this inbox.")
def test(settings_file: Path | None, inbox: str | None) -> None:
    """Send a test message to each URL, and print each result. Exit code 1 if one fails, or if there is none.

    Of a URL, only the scheme and the host are printed. Who may not read notify.urls_file needs sudo.
    """
    _, settings = read_settings(settings_file)
    urls = _choose_urls(settings, inbox)
    if not is_installed():
        raise SettingsError([Finding("notify.urls", "Apprise is not installed", "pip install 'inboxd[notify]'")])
    sender, message = Sender(), write_test(settings.host)
    failed = 0
    for url, label in labels(urls).items():
        error = sender.send(url, message)
        failed += bool(error)
        echo(f"{label}: {error or 'sent'}", err=bool(error))
    sys.exit(EXIT_ATTENTION if failed else 0)


def _choose_urls(settings: Settings, inbox: str | None) -> tuple[str, ...]:
    """Return the URLs of an inbox, or of all. Raises SettingsError if there is none."""
    if inbox is not None and inbox not in settings.inbox:
        known = ", ".join(settings.inbox)
        raise SettingsError([Finding(f"--inbox {inbox}", "there is no such inbox", f"name one of {known}")])
    addresses = read_addresses(settings, os.environ)
    if addresses.problem:
        raise SettingsError([Finding("notify.urls_file", addresses.problem, "run the command with sudo")])
    urls = addresses.by_inbox.get(inbox, ()) if inbox else addresses.urls
    if not urls:
        remedy = "set notify.urls, or notify.urls_file; an inbox with notify_on = [] is switched off"
        raise SettingsError([Finding(f"inbox {inbox}" if inbox else "notify", "nobody is to be notified", remedy)])
    return urls


def find_problems(settings: Settings) -> list[Finding]:
    """Return notes on URLs that can't be used: none blocks a start, since files matter more than messages."""
    addresses = read_addresses(settings, os.environ)
    findings = []
    if addresses.problem:
        remedy = "none is needed if beat gets the file as a credential: sudo inboxd systemd sync"
        findings.append(Finding("notify.urls_file", addresses.problem, remedy, blocks=False))
    if addresses.urls and not is_installed():
        problem, _, remedy = NOT_INSTALLED.partition(": ")
        return [*findings, Finding("notify.urls", f"{problem}: nobody is notified", remedy, blocks=False)]
    problems = Sender().find_problems(addresses.urls) if addresses.urls else []
    for label, problem in zip(labels(addresses.urls).values(), problems, strict=True):
        if problem:
            remedy = "correct the URL as docs/notifications.md describes it, and run `inboxd notify test`"
            findings.append(Finding(f"notify, {label}", problem, remedy, blocks=False))
    return findings
