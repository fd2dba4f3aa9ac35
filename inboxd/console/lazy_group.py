"""A group of commands that imports a command's module when the command is run: a help text needs no library of theirs."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem


class CommandPath(NamedTuple):
    """Where a command is (``module:object``), and the first sentence of its help text, which lists of commands show."""

    path: str
    short_help: str


class LazyGroup(click.Group):
    """A group whose commands are given as paths. Lists of them, and the completion of their names, import none of them."""

    def __init__(self, *arguments: Any, paths: Mapping[str, CommandPath], **options: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*arguments, **options)
        self.paths = paths

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *self.paths})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module; None if there is none of that name."""
        if cmd_name in self.paths and cmd_name not in self.commands:
            module, _, name = self.paths[cmd_name].path.partition(":")
            self.add_command(getattr(import_module(module), name), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the names and the short help of the commands."""
        rows = [(name, self.paths[name].short_help) for name in self.list_commands(ctx) if name in self.paths]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with the incomplete word."""
        names = [name for name in self.list_commands(ctx) if name in self.paths and name.startswith(incomplete)]
        commands = [CompletionItem(name, help=self.paths[name].short_help) for name in names]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]
