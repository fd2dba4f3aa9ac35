"""`inboxd explain`: why a file is where it is."""

import json
import os
import sys
from pathlib import Path

import click

from inboxd.config.settings import Settings
from inboxd.console.explain import explain as explaining
from inboxd.console.options import EXIT_ATTENTION, json_option, read_settings, require_not_empty, settings_option
from inboxd.console.paths import quote_for_shell
from inboxd.fs.syscalls import ignore_lease_breaks
from inboxd.logs.text import escape


@click.command()
@settings_option
@click.argument("path", callback=require_not_empty)
@json_option
def explain(named: Path | None, path: str, in_json: bool) -> None:
    """Say why a file is (still) where it is: waiting and until when, ignored by which rule, claimed, done, failed and why.

    PATH is absolute, or relative to the current folder or to an inbox. It only looks. Exit code 1 if nothing is known of it.
    """
    _, settings = read_settings(named, needs_redis=True)
    ignore_lease_breaks()
    found = explaining.explain(settings, path)
    if in_json:
        click.echo(
            json.dumps({"path": escape(os.fsencode(path)), "found": [explaining.to_json(one) for one in found]}, indent=2)
        )
    for line in (
        []
        if in_json
        else [line for one in found for line in explaining.render_explanation(one)] or _render_unknown(settings, path)
    ):
        click.echo(line)
    sys.exit(0 if found else EXIT_ATTENTION)


def _render_unknown(settings: Settings, path: str) -> list[str]:
    shown_path = escape(path)
    roots = ", ".join(escape(bytes(inbox.root)) for inbox in settings.inbox.values())
    return [
        f"{shown_path}: nothing is known of it",
        f"  it is not in inbox/, claimed/, done/ or failed/ of {roots}",
        f"  what became of it, the log may tell: inboxd trace {quote_for_shell(os.fsencode(path))}",
    ]
