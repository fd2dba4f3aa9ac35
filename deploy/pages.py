"""Write the man pages and the shells' completion scripts into a folder laid out as share/: `make pages`.

They are kept in the tree, and a test keeps them current: to write them, every command has to be imported, which a build of the
wheel can't do without all the packages that inboxd needs.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete
from click_man.core import write_man_pages

from inboxd.console.main import cli

MACROS = (".TH ", ".SH ", ".PP", ".B ", ".TP")
COMPLETIONS: dict[str, type[ShellComplete]] = {
    "bash-completion/completions/inboxd": BashComplete,
    "zsh/site-functions/_inboxd": ZshComplete,
    "fish/vendor_completions.d/inboxd.fish": FishComplete,
}


def write_pages(share: Path) -> None:
    """Write all pages and scripts below a folder; files of commands that no longer exist are left there."""
    _load(cli, click.Context(cli, info_name="inboxd"))
    manual = share / "man/man1"
    manual.mkdir(parents=True, exist_ok=True)
    write_man_pages("inboxd", cli, version=version("inboxd"), target_dir=str(manual), date="-")
    for page in manual.glob("*.1"):
        page.write_text("\n".join(map(_escape, page.read_text("utf-8").replace(' "-" ', ' "" ', 1).split("\n"))), "utf-8")
    for name, shell in COMPLETIONS.items():
        script = share / name
        script.parent.mkdir(parents=True, exist_ok=True)
        # BashComplete's own method asks the bash of this machine for its version
        script.write_text(ShellComplete.source(shell(cli, {}, "inboxd", "_INBOXD_COMPLETE")), "utf-8")


def _load(group: click.Group, context: click.Context) -> None:
    """Load all commands of a group, since click-man sees only these, and give each its whole first sentence."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        command.short_help = command.get_short_help_str(limit=1000)
        if isinstance(command, click.Group):
            _load(command, click.Context(command, info_name=name, parent=context))


def _escape(line: str) -> str:
    """Return a line of a page; one that begins with a dot, and is no macro of click-man's, would not be shown."""
    return rf"\&{line}" if line.startswith((".", "'")) and not line.startswith(MACROS) else line


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
