"""`inboxd init`: begin a project."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from inboxd.config.loading import SETTINGS_VARIABLE
from inboxd.console.output import echo
from inboxd.console.paths import quote_for_shell
from inboxd.console.project.create import create_project
from inboxd.console.project.templates import FILES, ROOT_NAME, SETTINGS_NAME, TEST_NAME


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path, file_okay=False))
def init(folder: Path) -> None:
    """Begin a project in FOLDER (by default the current one): settings, an example handler with its test, and folders.

    Nothing is overwritten: if one of the files exists, nothing is written, and the exit code is 2.
    """
    create_project(folder)
    echo("\n".join(render_next_steps(folder)))


def render_next_steps(folder: Path) -> Iterator[str]:
    """Yield what was made, and the commands to type next: word for word, in any shell."""
    yield f"Made in {folder.absolute()}: {', '.join(FILES)}, and {ROOT_NAME}/ with inbox, claimed, done and failed."
    yield ""
    yield "Next:"
    if folder.absolute() != Path.cwd():
        yield f"  cd {quote_for_shell(os.fsencode(folder))}"
    # for root, ./settings.toml does not count, and the variable comes before it for everybody
    option = f" --settings {SETTINGS_NAME}" if os.geteuid() == 0 or os.environ.get(SETTINGS_VARIABLE) else ""
    inboxd, python = _find_program(), shlex.quote(sys.executable)
    for command, meaning in (
        (f"{inboxd} check{option}", "are settings and folders usable?"),
        (f"{inboxd} try{option} --inbox drop {SETTINGS_NAME}", "what would the handler do with this file?"),
        (f"{python} -m pytest {TEST_NAME}", "the handler's test, if pytest is installed"),
        (f"{inboxd} up{option}", "run everything in this terminal; Ctrl-C stops it"),
        (f"cp {SETTINGS_NAME} {ROOT_NAME}/inbox/", f"in another terminal: drop a file; it ends in {ROOT_NAME}/done"),
    ):
        yield f"  {command}  # {meaning}"


def _find_program() -> str:
    """Return how this command line is called: by its name if the shell finds it, else by its path."""
    script = Path(sys.executable).with_name("inboxd")
    found = shutil.which("inboxd")
    if found and (Path(found).resolve() == script.resolve() or not script.exists()):
        return "inboxd"
    return shlex.quote(str(script)) if script.exists() else f"{shlex.quote(sys.executable)} -m inboxd"
