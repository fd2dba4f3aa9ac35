"""`inboxd try`: run one handler on files, without a server and without folders."""

import os
import re
import sys
from pathlib import Path

import click

from inboxd.config.handler_kinds import without_other_kinds
from inboxd.config.loading import find_settings
from inboxd.config.rules import Inbox, Rules
from inboxd.config.settings import Settings
from inboxd.config.tables import Work
from inboxd.console.options import EXIT_ATTENTION, read_settings, settings_option
from inboxd.console.output import echo
from inboxd.console.trial.render import render_trial, would_be_done
from inboxd.console.trial.trial import try_file
from inboxd.errors import Finding, SettingsError
from inboxd.fs.syscalls import ignore_lease_breaks
from inboxd.logs.text import escape


@click.command("try")
@settings_option
@click.option("--inbox", metavar="NAME", help="Try this inbox's handler, with its rules; then HANDLER is left out.")
@click.option("--time-limit", metavar="SECONDS", type=click.IntRange(1, 86_400), help="By default the inbox's.")
@click.argument("arguments", metavar="[HANDLER] FILE...", nargs=-1, required=True)
def try_(settings_file: Path | None, inbox: str | None, time_limit: int | None, arguments: tuple[str, ...]) -> None:
    """Run a handler on files: print its result, its time, what it printed, and what would become of each file.

    HANDLER is module:function; the module is looked for as by a worker, and then in the current folder. No server and no
    settings are needed. The handler gets a copy of each file, and runs in a process of its own. Exit code 1: a file would not
    go to done/.
    """
    handler, names = (None, arguments) if inbox else (arguments[0], arguments[1:])
    file, settings = _read_settings(settings_file, is_needed=inbox is not None)
    rules = _find_inbox(settings, inbox) if settings and inbox else _make_inbox(settings, handler or "")
    paths = [_require_file(name) for name in names]
    if not paths:
        raise click.UsageError("name at least one FILE")
    if file:  # the wrong one is easily taken: of another folder, or of the environment
        echo(escape(f"{f'{inbox}: ' if inbox else ''}{rules.handled_by}, with the settings of {_shorten(file)}"))
    folders = [*([str(file.parent)] if file else []), *([] if inbox else [os.getcwd()])]  # noqa: PTH109 - as text
    ignore_lease_breaks()
    are_done = [_try(rules, path, folders, time_limit, settings) for path in paths]
    sys.exit(0 if all(are_done) else EXIT_ATTENTION)


def _try(rules: Inbox, path: Path, folders: list[str], time_limit: int | None, settings: Settings | None) -> bool:
    """Try one file, and print what became of it; return whether it would go to done/."""
    try:
        trial = try_file(rules, path, folders, time_limit or rules.time_limit_seconds)
    except OSError as error:
        problem = f"can't be copied to a temporary folder: {error.strerror or error}"
        raise SettingsError([Finding(str(path), problem, "make the file readable, and room in the temporary folder")]) from None
    work = settings.work if settings else Work()
    echo("\n".join(render_trial(str(path), trial, rules, work.crashes_max)))
    return would_be_done(trial, rules)


def _shorten(file: Path) -> Path:
    """Return a path below the current folder without it."""
    here = Path.cwd()
    return file.absolute().relative_to(here) if here in file.absolute().parents else file


def _read_settings(settings_file: Path | None, *, is_needed: bool) -> tuple[Path | None, Settings | None]:
    """Return the settings file and the settings; None if there is none, and none is needed."""
    if not is_needed and settings_file is None:
        try:
            find_settings()
        except SettingsError:
            return None, None
    return read_settings(settings_file)


def _find_inbox(settings: Settings, name: str) -> Inbox:
    if name not in settings.inbox:
        known = ", ".join(settings.inbox) or "none"
        raise click.BadParameter(f"there is no inbox {name!r}; the settings have: {known}", param_hint="--inbox")
    found = settings.inbox[name]
    if found.task:
        problem = f"the files of this inbox go to {found.handled_by} of another Celery app, which only its worker can run"
        raise SettingsError(
            [Finding(f"inbox.{name}.task", problem, "ask its worker for the task: inboxd check; then drop a file")]
        )
    return found


def _make_inbox(settings: Settings | None, handler: str) -> Inbox:
    """Return an inbox with this handler, and the rules of ``[defaults]``."""
    if not re.fullmatch(r"[\w.]+:[\w.]+", handler):
        raise click.BadParameter(f"{handler!r} is not module:function, such as invoices:book", param_hint="HANDLER")
    rules = settings.defaults if settings else Rules()
    own = {"handler": handler, "root": Path("try"), "name": "try"}
    return Inbox.model_validate({**without_other_kinds(rules.model_dump(), own), **own})


def _require_file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise click.BadParameter(f"{name} is {'a folder' if path.is_dir() else 'not a file'}", param_hint="FILE")
    return path
