"""`inboxd web --set-password`: what it writes and refuses; the command without its packages."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from support.web import NO_REDIS

from inboxd.console.commands import web
from inboxd.console.main import cli
from inboxd.console.web import passwords


def run(folder: Path, table: str, typed: str, *options: str) -> tuple[int, str]:
    file = folder / "settings.toml"
    file.write_text(f"{NO_REDIS}[web]\n{table}\n")
    result = CliRunner().invoke(cli, ["web", "--settings", str(file), *options], input=typed)
    return result.exit_code, result.output


def test_the_typed_password_opens_the_file_that_was_written(tmp_path: Path) -> None:
    code, output = run(tmp_path, 'password_file = "secret"', "correct horse\ncorrect horse\n", "--set-password")

    assert (code, "correct horse" in output) == (0, False)
    assert passwords.is_password("correct horse", passwords.read_hash(tmp_path / "secret"))


@pytest.mark.parametrize(
    ("table", "typed", "problem"),
    [("", "", "is not set"), ('password_file = "secret"', "short\nshort\n", "too short"),
     ('password_file = "none/secret"', "correct horse\ncorrect horse\n", "can't be written")],
)  # fmt: skip
def test_a_password_that_can_not_be_set_is_refused(tmp_path: Path, table: str, typed: str, problem: str) -> None:
    code, output = run(tmp_path, table, typed, "--set-password")

    assert code == 2
    assert problem in output
    assert not (tmp_path / "secret").exists()


def test_missing_packages_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PACKAGES", ("no_such_package",))

    code, output = run(tmp_path, "", "")

    assert code == 2
    assert "no_such_package" in output
    assert "pip install 'inboxd[web]'" in output
