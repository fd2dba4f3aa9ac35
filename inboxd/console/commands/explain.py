"""`inboxd explain`: say why a file is where it is."""

import json
import os
import sys
from pathlib import Path

import click

from inboxd.config.settings import Settings
from inboxd.console.explain import explain as explaining
from inboxd.console.options import EXIT_ATTENTION, json_option, read_settings, require_not_empty, settings_option
from inboxd.console.output import echo
from inboxd.console.paths import quote_for_shell
from inboxd.fs.syscalls import ignore_lease_breaks
from inboxd.logs.text import escape


@click.command()
@settings_option
@click.argument("path", callback=require_not_empty)
@json_option
def explain(settings_file: Path | None, path: str, as_json: bool) -> None:
    """Say why a file is where it is. The states in inbox/ are waiting, ready, held back, ignored, refused and denied.

    PATH is absolute, or relative to the current folder or to an inbox. Nothing is changed. Exit code 1 if no file is found.
    """
    _, settings = read_settings(settings_file, needs_redis=True)
    ignore_lease_breaks()
    explanations = explaining.explain(settings, path)
    if as_json:
        found = [explaining.to_json(explanation) for explanation in explanations]
        echo(json.dumps({"path": escape(os.fsencode(path)), "found": found}, indent=2))
    else:
        lines = [line for explanation in explanations for line in explaining.render_explanation(explanation)]
        echo("\n".join(lines or _render_not_found(settings, path)))
    sys.exit(0 if explanations else EXIT_ATTENTION)


def _render_not_found(settings: Settings, path: str) -> list[str]:
    roots = ", ".join(escape(bytes(inbox.root)) for inbox in settings.inbox.values())
    return [
        f"{escape(path)}: not found",
        f"  no such file is in inbox/, claimed/, done/ or failed/ of {roots}",
        f"  to search the log for the file: inboxd trace {quote_for_shell(os.fsencode(path))}",
    ]
