"""What commands print can't move a terminal's cursor: all of it goes through one function, which escapes it."""

import ast
from pathlib import Path

import pytest
from support.repository import REPOSITORY

from inboxd.console import output

CONSOLE = REPOSITORY / "inboxd" / "console"


def test_each_line_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo("one\x1b[2J\ntwo\r\x07")

    assert capsys.readouterr().out == "one\\x1b[2J\ntwo\\r\\x07\n"


def test_lines_and_notices_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_lines(["\x1b]0;title\x07"])
    output.print_notice("\x9b31m")

    assert capsys.readouterr() == ("\\x1b]0;title\\x07\n", "\\x9b31m\n")


@pytest.mark.parametrize("file", sorted(CONSOLE.rglob("*.py")), ids=lambda file: str(file.relative_to(CONSOLE)))
def test_nothing_else_prints(file: Path) -> None:
    if file.name == "output.py":
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("click.echo", "click.secho", "print", "sys.stdout.write"), f"{file}:{node.lineno}"
