"""The entry point of the command line: the group of all commands, and the exit codes of their errors."""

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
import structlog

from inboxd.console.commands import (
    audit,
    check,
    explain,
    init,
    log,
    notify,
    redis_acl,
    retry,
    server,
    status,
    trace,
    try_,
    up,
    watch,
)
from inboxd.console.options import EXIT_ATTENTION
from inboxd.console.output import echo
from inboxd.console.systemd.commands import systemd
from inboxd.console.up.supervisor import EXIT_BAD_SETTINGS
from inboxd.errors import SettingsError, TransientError


class Commands(click.Group):
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


def _version() -> str:
    try:
        return version("inboxd")
    except PackageNotFoundError:  # run from a checkout
        return "(not installed)"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="inboxd")
def cli() -> None:
    """Process files that people drop into a folder: each is passed to a handler, and moved to done/ or failed/."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the command's own output


for _command in (
    init.init,
    up.up,
    watch.watch,
    check.check,
    status.status,
    log.log,
    trace.trace,
    try_.try_,
    explain.explain,
    retry.retry,
    audit.audit,
    notify.notify,
    redis_acl.redis_acl,
    server.server,
    systemd,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line."""
    cli()
