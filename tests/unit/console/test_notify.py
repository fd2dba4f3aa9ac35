"""`inboxd notify test`, `check` and `status`: whether messages arrive is told, and no password is."""

import json
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest
from click.testing import CliRunner, Result
from support.notify.sinks import HttpSink

from inboxd.config.loading import load_settings
from inboxd.console.main import cli
from inboxd.console.status.snapshot import describe_notifier
from inboxd.fs.syscalls import Disk
from inboxd.notify import sender
from inboxd.notify.state import NotifyState, Recipient, save_state
from inboxd.service import preflight

PASSWORD = "the-password"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    server = HttpSink()
    server.start()
    yield server
    server.stop()


def write_settings(folder: Path, *urls: str, **inbox: object) -> Path:
    file = folder / "settings.toml"
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in inbox.items())
    file.write_text(f'[notify]\nurls = {json.dumps(list(urls))}\n[inbox.drop]\nroot = "drop"\n{keys}')
    preflight.create_folders(load_settings(file))
    return file


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_test_message_is_sent_to_each_url_and_each_result_is_printed(tmp_path: Path, sink: HttpSink) -> None:
    dead = "json://user:the-password@127.0.0.1:1/the-secret-path"
    file = write_settings(tmp_path, sink.url, dead)

    result = run("notify", "test", "--settings", file)

    assert result.exit_code == 1
    assert "json://127.0.0.1: sent\n" in result.stdout
    assert "json://127.0.0.1 (2): " in result.stderr
    assert "Connection refused" in result.stderr
    assert PASSWORD not in result.output
    assert "secret-path" not in result.output
    assert sink.messages[0]["title"].endswith(": a test")


def test_a_server_that_refuses_the_message_is_named_with_its_reply(tmp_path: Path, sink: HttpSink) -> None:
    sink.status = 403

    result = run("notify", "test", "--settings", write_settings(tmp_path, sink.url))

    assert result.exit_code == 1
    assert "403" in result.stderr


def test_one_inbox_s_urls_can_be_tried(tmp_path: Path, sink: HttpSink) -> None:
    file = write_settings(tmp_path, "json://127.0.0.1:1/", notify_urls=[sink.url])

    assert run("notify", "test", "--inbox", "drop", "--settings", file).exit_code == 0
    unknown = run("notify", "test", "--inbox", "other", "--settings", file)
    assert (unknown.exit_code, "there is no such inbox" in unknown.stderr) == (2, True)


def test_without_urls_or_apprise_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nobody is to be notified" in run("notify", "test", "--settings", write_settings(tmp_path)).stderr

    monkeypatch.setattr("inboxd.console.commands.notify.is_installed", lambda: False)
    file = write_settings(tmp_path, "json://127.0.0.1:1/")

    result = run("notify", "test", "--settings", file)
    assert (result.exit_code, "pip install 'inboxd[notify]'" in result.stderr) == (2, True)
    assert "pip install 'inboxd[notify]'" in run("check", "--no-broker", "--settings", file).stdout


def test_check_names_urls_that_apprise_can_not_use_and_sends_nothing(tmp_path: Path, sink: HttpSink) -> None:
    file = write_settings(tmp_path, sink.url, "bogus://user:the-password@example.org", "mailto://nothing")

    result = run("check", "--no-broker", "--settings", file)

    assert result.exit_code == 0, "files matter more than messages"
    assert "note: notify, bogus://: " in result.stdout
    assert "note: notify, mailto://" in result.stdout
    assert f"127.0.0.1:{sink.port}" not in result.stdout
    assert PASSWORD not in result.output
    assert sink.messages == []


def test_status_names_a_url_that_no_message_reaches(tmp_path: Path) -> None:
    file = write_settings(tmp_path, "json://example.org/")
    failing = Recipient("json://example.org", tries=3, failing_since=time.time(), error="Connection refused")
    save_state(Disk(), PurePath(load_settings(file).state_dir), NotifyState({"id": failing}, ("drop: denied",)))

    result = run("status", "--settings", file)
    as_json = json.loads(run("status", "--json", "--settings", file).stdout)

    assert result.exit_code == 1
    assert "notify   failing: json://example.org" in result.stdout
    assert "! notify: no message reaches json://example.org since " in result.stdout
    assert "! notify: beat can't read drop: denied" in result.stdout
    assert (as_json["notify"][0]["to"], as_json["notify"][0]["error"]) == ("json://example.org", "Connection refused")
    assert any(problem.startswith("notify: no message reaches") for problem in as_json["problems"])


def test_one_failed_try_is_no_problem_yet() -> None:
    assert list(describe_notifier(NotifyState({"id": Recipient("x://", tries=1, error="greylisted")}))) == []
    assert list(describe_notifier(None)) == []


def test_a_program_that_dies_is_an_error_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_ARGV", ("sh", "-c", "echo the-password >&2; exit 3"))

    assert sender.Sender().find_problems(["json://user:the-password@example.org"]) == ["***"]
