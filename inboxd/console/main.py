"""The command line: the commands that people type, their options, and their exit codes."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from inboxd.console.commands import audit, check, explain, log, retry, status, trace, up, watch
from inboxd.console.options import EXIT_ATTENTION
from inboxd.console.systemd.commands import systemd
from inboxd.console.up.supervisor import EXIT_BAD_SETTINGS
from inboxd.errors import Finding, SettingsError, TransientError
from inboxd.logs.text import escape


class Commands(click.Group):
    """Commands that may raise SettingsError: each finding is printed to stderr, and the exit code is 2; or Weather: 1."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            for finding in error.findings:
                click.echo(_escape_finding(finding), err=True)
            ctx.exit(EXIT_BAD_SETTINGS)
        except TransientError as error:
            click.echo(escape(str(error)), err=True)
            ctx.exit(EXIT_ATTENTION)


def _version() -> str:
    try:
        return version("inboxd")
    except PackageNotFoundError:  # run from a checkout
        return "(not installed)"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="inboxd")
def cli() -> None:
    """Drop files into a folder; each is worked on, and ends in done/ or in failed/."""


for _command in (
    up.up,
    watch.watch,
    check.check,
    status.status,
    log.log,
    trace.trace,
    explain.explain,
    retry.retry,
    audit.audit,
    systemd,
):
    cli.add_command(_command)


def _escape_finding(finding: Finding) -> str:
    return str(Finding(escape(finding.where), escape(finding.problem), escape(finding.remedy)))


def main() -> None:
    """Run the command line."""
    cli()
