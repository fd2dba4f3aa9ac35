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


def _require_none_empty(context: click.Context, parameter: click.Parameter, paths: tuple[str, ...]) -> tuple[str, ...]:
    for path in paths:
        require_not_empty(context, parameter, path)
    return paths


@click.command()
@settings_option
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, callback=_require_none_empty)
@json_option
def explain(settings_file: Path | None, paths: tuple[str, ...], as_json: bool) -> None:
    """Say why files are where they are. The states in inbox/ are waiting, ready, held back, ignored, refused and denied.

    Each PATH is absolute, or relative to the current folder or to an inbox. Nothing is changed. Exit code 1: one was not found.
    With --json and several paths, each has a line.
    """
    _, settings = read_settings(settings_file, needs_redis=True)
    ignore_lease_breaks()
    all_found = [_explain_one(settings, path, as_json=as_json, indent=2 if len(paths) == 1 else None) for path in paths]
    sys.exit(0 if all(all_found) else EXIT_ATTENTION)


def _explain_one(settings: Settings, path: str, *, as_json: bool, indent: int | None) -> bool:
    """Print the explanation of one path; return whether there is such a file."""
    explanations = explaining.explain(settings, path)
    if as_json:
        found = [explaining.to_json(explanation) for explanation in explanations]
        echo(json.dumps({"path": escape(os.fsencode(path)), "found": found}, indent=indent))
    else:
        lines = [line for explanation in explanations for line in explaining.render_explanation(explanation)]
        echo("\n".join(lines or _render_not_found(settings, path)))
    return bool(explanations)


def _render_not_found(settings: Settings, path: str) -> list[str]:
    roots = ", ".join(escape(bytes(inbox.root)) for inbox in settings.inbox.values())
    return [
        f"{escape(path)}: not found",
        f"  no such file is in inbox/, claimed/, done/ or failed/ of {roots}",
        f"  to search the log for the file: inboxd trace {quote_for_shell(os.fsencode(path))}",
    ]
