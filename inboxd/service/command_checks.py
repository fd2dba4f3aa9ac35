"""Checks an inbox's command before a start: its program is there, and nobody else can change it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from inboxd.config.rules import Inbox
from inboxd.config.strict_modes import find_untrusted
from inboxd.errors import Finding


def check_command(inbox: Inbox) -> Iterator[Finding]:
    """Yield a finding for a program that can't be run, or that others can change."""
    program = inbox.command[0]
    where = f"inbox.{inbox.name}.command, {program}"
    search_path = next((text.removeprefix("PATH=") for text in inbox.env if text.startswith("PATH=")), None)
    found = shutil.which(program, path=search_path)
    if found is None:
        yield Finding(where, "is not found, or not executable", "install the program, or write its whole path")
        return
    yield from find_untrusted(Path(found))
