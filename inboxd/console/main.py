"""The entry point of the command line: the group of all commands, and the exit codes of their errors.

Each command's module is imported when the command is run, here and nowhere else: the libraries of Redis, Celery and pydantic
take half a second of processor time, which neither a help text nor a completion should cost.
"""

from typing import Any

import click

from inboxd.console.deferred_import import defer_import
from inboxd.console.exit_codes import EXIT_ATTENTION, EXIT_BAD_SETTINGS
from inboxd.console.lazy_group import CommandPath, LazyGroup
from inboxd.console.output import echo
from inboxd.errors import SettingsError, TransientError

_COMMANDS = "inboxd.console.commands"

COMMANDS = {
    "audit": CommandPath(f"{_COMMANDS}.audit:audit", "Account for every file."),
    "check": CommandPath(f"{_COMMANDS}.check:check", "Check the settings and the folders."),
    "explain": CommandPath(f"{_COMMANDS}.explain:explain", "Say why files are where they are."),
    "init": CommandPath(
        f"{_COMMANDS}.init:init",
        "Begin a project in FOLDER (by default the current one): settings, an example handler with its test, and folders.",
    ),
    "log": CommandPath(f"{_COMMANDS}.log:log", "Show the log."),
    "notify": CommandPath(
        f"{_COMMANDS}.notify:notify", "Try the notifications of failed, stuck, paused and recovered inboxes."
    ),
    "redis-acl": CommandPath(
        f"{_COMMANDS}.redis_acl:redis_acl",
        "Print a line for the server's ACL file: a user with the least rights that inboxd needs.",
    ),
    "retry": CommandPath(f"{_COMMANDS}.retry:retry", "Move failed files back into inbox/."),
    "server": CommandPath(
        f"{_COMMANDS}.server:server",
        "Run a Valkey or Redis server on a unix socket in state_dir, for the user and the group of inboxd.",
    ),
    "status": CommandPath(
        f"{_COMMANDS}.status:status", "Show the state of all inboxes and programs; the last line says what to do next."
    ),
    "systemd": CommandPath("inboxd.console.systemd.commands:systemd", "Install and manage inboxd as systemd services."),
    "trace": CommandPath(f"{_COMMANDS}.trace:trace", "Show the steps of a file and their times."),
    "try": CommandPath(
        f"{_COMMANDS}.try_:try_",
        "Run a handler on files: print its result, its time, what it printed, and what would become of each file.",
    ),
    "up": CommandPath(f"{_COMMANDS}.up:up", "Run all programs in this terminal."),
    "watch": CommandPath(f"{_COMMANDS}.watch:watch", "Run only the watcher."),
    "web": CommandPath(
        f"{_COMMANDS}.web:web",
        "Serve a page at web.listen: inboxes, failed files and their retry, a file's timeline.",
    ),
}
"""The commands by name. Each short help is the first sentence of the command's docstring; a test compares them."""


class Commands(LazyGroup):
    """A group that prints a command's SettingsError (every finding, exit code 2) or TransientError (exit code 1) to stderr."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            for finding in error.findings:
                echo(str(finding), err=True)
            ctx.exit(EXIT_BAD_SETTINGS)
        except TransientError as error:
            echo(str(error), err=True)
            ctx.exit(EXIT_ATTENTION)


@click.group(cls=Commands, paths=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inboxd", prog_name="inboxd")
def cli() -> None:
    """Process files that people drop into a folder: each is passed to a handler, and moved to done/ or failed/."""


def main() -> None:
    """Run the command line."""
    defer_import("redis.asyncio")  # redis imports it, and no command uses it
    cli()
