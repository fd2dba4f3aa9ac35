"""The command line: exit codes, findings and output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result
from redis.exceptions import NoPermissionError
from support.repository import REPOSITORY

from inboxd.config.loading import SETTINGS_VARIABLE, load_settings
from inboxd.console.main import cli
from inboxd.service import preflight

COMMANDS = ["up", "watch", "check", "status"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text('[inbox.drop]\nroot = "drop"\n')
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_invalid_settings_are_reported_with_remedies_and_exit_code_2(command: str, file: Path) -> None:
    file.write_text('hots = "me"\n[inbox.drop]\nroot = "drop"\nsettle_seconds = "soon"\n')

    result = run(command, "--settings", file)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "did you mean host?" in result.stderr
    assert "inbox.drop.settle_seconds" in result.stderr
    assert result.stderr.count("remedy:") == 2
    assert not (file.parent / "drop").exists()
    assert not (file.parent / "var").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_settings_file_ends_with_code_2(command: str, tmp_path: Path) -> None:
    result = run(command, "--settings", tmp_path / "none.toml")

    assert result.exit_code == 2
    assert "none.toml: is not a file" in result.stderr


def test_hostile_settings_are_shown_on_one_printable_line(file: Path) -> None:
    file.write_text('[inbox.drop]\nroot = "drop"\nhandler = "\\u001b[2J\\nfake: ok"\n')

    result = run("check", "--settings", file)

    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert "\nfake" not in result.stderr


def test_the_environment_can_name_the_settings_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.create_folders(load_settings(file))
    monkeypatch.setenv(SETTINGS_VARIABLE, str(file))

    result = run("check")

    assert result.exit_code == 0


def test_check_prints_ok_for_each_inbox_and_a_note_about_an_unavailable_broker(file: Path) -> None:
    preflight.create_folders(load_settings(file))

    result = run("check", "--settings", file)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        f"{file}: ok",
        f"inbox drop: ok ({file.parent}/drop, handler inboxd.handlers:describe)",
    ]
    assert result.stdout.splitlines()[-1].startswith("note: the broker at unix://")
    assert "does not answer (`inboxd up` starts a server there)" in result.stdout


def test_check_reports_problems_with_the_folders_and_the_handler(file: Path) -> None:
    file.write_text('[inbox.drop]\nroot = "drop"\nhandler = "nowhere:at_all"\n')

    result = run("check", "--settings", file)

    assert result.exit_code == 2
    assert str(file.parent / "drop") in result.stderr
    assert "nowhere:at_all" in result.stderr
    assert not (file.parent / "drop").exists()


def test_the_version_is_shown() -> None:
    result = run("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("inboxd, version ")


def test_watch_executes_the_watcher_with_an_absolute_settings_path(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
    monkeypatch.chdir(file.parent)

    run("watch", "--settings", "settings.toml")

    path, argv, environment = calls[0]
    assert (path, argv) == (sys.executable, [sys.executable, "-P", "-m", "inboxd.watcher"])
    assert environment[SETTINGS_VARIABLE] == str(file)
    assert environment["PATH"] == os.environ["PATH"]


def test_handlers_in_the_current_folder_are_found(file: Path, tmp_path: Path) -> None:
    (tmp_path / "my_handler.py").write_text("def handle(file): ...\n")
    file.write_text('[inbox.drop]\nroot = "drop"\nhandler = "my_handler:handle"\n')
    preflight.create_folders(load_settings(file))
    code = f"import sys; sys.path[0] = {str(REPOSITORY)!r}; from inboxd.console.main import main; main()"

    argv = [sys.executable, "-c", code, "check", "--settings", "settings.toml"]
    result = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False, text=True)

    assert result.returncode == 0, result.stderr


def test_redis_acl_prints_a_user_whose_rights_end_at_the_namespace(file: Path, valkey: redis.Redis, valkey_url: str) -> None:
    file.write_text(f'redis.url = "{valkey_url}"\nredis.namespace = "acme"\n' + file.read_text())

    result = run("redis-acl", "--settings", file)
    user, *rules = result.stdout.split()[1:]
    valkey.execute_command("ACL SETUSER", user, *rules)
    url = result.stderr.removeprefix("redis.url = ").strip()

    with redis.Redis.from_url(url) as client:
        assert client.set("acme:inboxd:key", "value")
        for command in ("GET inboxd:key", "FLUSHALL", "CONFIG GET dir", "KEYS *", "SHUTDOWN", "ACL LIST"):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command.split())
    valkey.execute_command("ACL DELUSER", user)


def test_redis_acl_keeps_the_password_of_the_url_to_itself(file: Path) -> None:
    file.write_text('redis.url = "redis://drop%40:a%20secret@db.example:6379/3"\n' + file.read_text())

    result = run("redis-acl", "--settings", file)

    assert result.stdout.startswith("user drop@ reset on #")
    assert "secret" not in result.stdout
    assert result.stderr == ""
    assert "&/3.inboxd.pidbox" in result.stdout


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("redis://[::1]:6379/3", "redis://inboxd:"),
        ("rediss://db.example:6379/0?ssl_ca_certs=/ca.crt", "@db.example:6379/0?ssl_ca_certs=/ca.crt"),
        ("unix:///run/r.sock?db=3", "@/run/r.sock?db=3"),
        ("redis://bob@h:6379/0?db=5", "redis://bob:"),
    ],
)
def test_redis_acl_prints_a_url_with_all_of_the_old_one(file: Path, url: str, printed: str) -> None:
    file.write_text(f'redis.url = "{url}"\n' + file.read_text())

    result = run("redis-acl", "--settings", file)

    assert printed in result.stderr
    assert result.stderr.strip().endswith(url.partition("://")[2].rpartition("bob@")[2])


@pytest.mark.parametrize("url", ["redis://us%20er@h/0", "redis://h/x", "redis://h/0?db=-1"])
def test_redis_acl_refuses_what_makes_no_line(file: Path, url: str) -> None:
    file.write_text(f'redis.url = "{url}"\n' + file.read_text())

    result = run("redis-acl", "--settings", file)

    assert result.exit_code == 2
    assert "name a user without spaces" in result.stderr


def test_check_fails_if_the_user_may_not_do_what_inboxd_does(file: Path, valkey: redis.Redis, valkey_url: str) -> None:
    valkey.execute_command("ACL", "SETUSER", "bot", "on", ">secret", "~other:*", "+@all")
    url = valkey_url.replace("unix://", "unix://bot:secret@")
    file.write_text(f'redis.url = "{url}"\n' + file.read_text())
    preflight.create_folders(load_settings(file))

    result = run("check", "--settings", file)

    valkey.execute_command("ACL", "DELUSER", "bot")
    assert result.exit_code == 2
    assert "`inboxd redis-acl`" in result.stderr
