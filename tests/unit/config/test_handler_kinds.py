"""What handles an inbox's files: one kind, its own keys, and what is refused with which words."""

from pathlib import Path

import pytest

from inboxd.config.handler_kinds import DEFAULT_HANDLER
from inboxd.config.loading import load_settings
from inboxd.config.programs import PLACEHOLDERS, is_on_this_host
from inboxd.config.rules import Inbox
from inboxd.errors import Finding, SettingsError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def load(file: Path, text: str) -> Inbox:
    file.write_text(text if "[inbox.drop]" in text else f'[inbox.drop]\nroot = "drop"\n{text}\n')
    return load_settings(file).inbox["drop"]


def refusal(file: Path, text: str) -> Finding:
    with pytest.raises(SettingsError) as caught:
        load(file, text)
    (finding,) = caught.value.findings
    return finding


def test_without_a_handler_files_are_described(file: Path) -> None:
    assert load(file, "").handled_by == DEFAULT_HANDLER


def test_a_command_is_an_inboxs_handler(file: Path) -> None:
    inbox = load(file, 'command = ["gzip", "--test", "{path}"]')

    assert (inbox.command, inbox.handled_by) == (("gzip", "--test", "{path}"), "command gzip")


@pytest.mark.parametrize(
    ("defaults", "own", "handled_by"),
    [
        ('handler = "a:b"', 'command = ["gzip", "{path}"]', "command gzip"),
        ('command = ["gzip", "{path}"]', 'handler = "a:b"', "a:b"),
        ('command = ["gzip", "{path}"]', "", "command gzip"),
        ('command = ["gzip", "{path}"]', 'command = ["xz", "{path}"]', "command xz"),
    ],
)
def test_an_inboxs_own_kind_replaces_that_of_the_defaults(defaults: str, own: str, handled_by: str, file: Path) -> None:
    inbox = load(file, f'[defaults]\n{defaults}\n[inbox.drop]\nroot = "drop"\n{own}\n')

    assert inbox.handled_by == handled_by


@pytest.mark.parametrize("table", ["inbox.drop", "defaults"])
def test_two_kinds_in_one_table_are_refused(table: str, file: Path) -> None:
    both = 'handler = "a:b"\ncommand = ["gzip", "{path}"]'
    text = f'[defaults]\n{both}\n[inbox.drop]\nroot = "drop"\n' if table == "defaults" else both

    finding = refusal(file, text)

    assert finding.where == f"{table} ({file})"
    assert finding.problem == "has both handler and command: one of them handles the files; remove the other"


def test_an_exit_code_has_one_meaning(file: Path) -> None:
    finding = refusal(file, "ok_codes = [0, 3]\nreject_codes = [3, 4]")

    assert (finding.where, finding.problem) == (
        f"inbox.drop ({file})",
        "ok_codes and reject_codes both have 3: an exit code has one meaning",
    )


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ('"gzip --test {path}"', 'the program and each of its arguments are texts of their own: ["gzip", "--test", "{path}"]'),
        ('["{path}"]', 'the first text names the program, which is the same for each file: ["gzip", "--test", "{path}"]'),
        ('[" "]', 'the first text names the program, which is the same for each file: ["gzip", "--test", "{path}"]'),
        ('["gzip", "a\\u0000"]', "no argument of a program can hold a zero byte"),
        ('["gzip", "{file}"]', f"{{file}} is no placeholder; there are {', '.join(f'{{{word}}}' for word in PLACEHOLDERS)}"),
        ('["bash", "-ec", "wc {path}"]', "a shell would run parts of a file's name as commands"),
        ('["/bin/sh", "-c", "wc \'{name}\'"]', "a shell would run parts of a file's name as commands"),
        ('["sh", "-ce", "wc {path}"]', "a shell would run parts of a file's name as commands"),
        ('["bash", "-Ec", "wc {path}"]', "a shell would run parts of a file's name as commands"),
        ('["sh", "-c", "-e", "wc {path}"]', "a shell would run parts of a file's name as commands"),
        ('["bash", "-c", "--", "wc {path}"]', "a shell would run parts of a file's name as commands"),
        ('["timeout", "60", "sh", "-c", "wc {path}"]', "a shell would run parts of a file's name as commands"),
        ('["/usr/bin/env", "bash", "-c", "wc {path}"]', "a shell would run parts of a file's name as commands"),
        ('["busybox", "sh", "-c", "wc {path}"]', "a shell would run parts of a file's name as commands"),
    ],
)
def test_a_command_that_would_do_something_else_is_refused(command: str, problem: str, file: Path) -> None:
    finding = refusal(file, f"command = {command}")

    assert finding.where.startswith("inbox.drop.command = ")
    assert finding.problem.startswith(problem)


@pytest.mark.parametrize(
    "command",
    [
        '["sh", "-c", "wc \\"$1\\"", "sh", "{path}"]',
        '["awk", "{print $1}", "{path}"]',
        '["sh", "script.sh", "{path}"]',
        '["jq", "{{a}}"]',
    ],
)
def test_other_braces_and_shells_are_accepted(command: str, file: Path) -> None:
    assert load(file, f"command = {command}").command


def test_a_program_with_a_relative_path_is_looked_for_beside_the_settings(file: Path) -> None:
    assert load(file, 'command = ["./ocr.sh", "{path}"]').command[0] == str(file.parent / "ocr.sh")
    assert load(file, 'command = ["~/bin/ocr", "{path}"]').command[0] == str(Path.home() / "bin/ocr")
    assert load(file, 'command = ["ocr", "{path}"]').command[0] == "ocr"


@pytest.mark.parametrize("name", ["1A", "A-B", "=x", "A B", ""])
def test_what_is_no_variables_name_is_refused(name: str, file: Path) -> None:
    assert "a variable is a name" in refusal(file, f'env = ["{name}"]').problem


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("books.example.org", "a URL begins with https://"),
        ("ftp://books.example.org/", "a URL begins with https://"),
        ("https://", "a URL begins with https://"),
        ("https://host:99999/", "a URL begins with https://"),
        ("https://host/a b", "a URL begins with https://"),
        ("https://[::1/", "a URL begins with https://"),
        ("redis://host/0", "the URL of Redis belongs into [redis]"),
        ("https://me:hidden@host/", "logs show URLs, so that none has a password"),
        ("https://host/#part", "what follows # is never sent"),
    ],
)
def test_a_url_that_can_not_be_called_is_refused(url: str, problem: str, file: Path) -> None:
    finding = refusal(file, f'url = "{url}"')

    assert finding.problem.startswith(problem)


def test_a_password_in_a_url_is_not_shown(file: Path) -> None:
    assert "hidden" not in str(refusal(file, 'url = "https://me:hidden@host/"'))


def test_a_url_is_shown_without_its_query(file: Path) -> None:
    assert load(file, 'url = "https://host/in?token=hidden"').handled_by == "https://host/in"


@pytest.mark.parametrize(
    ("url", "is_own"),
    [
        ("http://localhost:8000/", True), ("http://127.0.0.9/", True), ("https://[::1]/", True),
        ("http://localhost.evil.org/", False), ("https://10.0.0.1/", False), ("https://books.example.org/", False),
    ],
)  # fmt: skip
def test_only_loopback_addresses_are_on_this_host(url: str, is_own: bool) -> None:
    assert is_on_this_host(url) == is_own


def test_files_of_a_webhook_are_relative_to_the_settings(file: Path) -> None:
    inbox = load(file, 'url = "https://host/"\nsecret_file = "secret"\nca_file = "~/ca.pem"')

    assert (inbox.secret_file, inbox.ca_file, inbox.authorization_file) == (
        str(file.parent / "secret"),
        str(Path.home() / "ca.pem"),
        "",
    )
