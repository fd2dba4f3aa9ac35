"""Loading the settings: the precedence of their sources, and the findings for errors."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest
from pydantic import ValidationError

from inboxd.config.loading import find_settings, load_settings
from inboxd.errors import Finding, SettingsError

DROP = '[inbox.drop]\nroot = "drop"\n'
NOBODY_UID = 65534


@pytest.fixture(autouse=True)
def without_inboxd_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("INBOXD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Create a folder that all users can access, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)


def findings(file: Path, text: str | bytes, **overrides: object) -> list[Finding]:
    """Return the findings for these settings."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, **overrides)
    return caught.value.findings


def single_finding(file: Path, text: str | bytes, **overrides: object) -> Finding:
    """Return the only finding for these settings."""
    all_findings = findings(file, text, **overrides)
    assert len(all_findings) == 1, all_findings
    return all_findings[0]


@contextlib.contextmanager
def as_unprivileged_user() -> Iterator[None]:
    """Run as the user nobody if the tests run as root, whom permissions do not restrict."""
    euid = os.geteuid()
    if euid == 0:
        os.seteuid(NOBODY_UID)
    try:
        yield
    finally:
        os.seteuid(euid)


# precedence


def test_the_file_overrides_the_defaults(file: Path) -> None:
    file.write_text('[redis]\nurl = "redis://file"\n')

    settings = load_settings(file)

    assert settings.redis.url == "redis://file"
    assert settings.redis.connect_timeout_seconds == 2.0


def test_the_environment_overrides_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[redis]\nurl = "redis://file"\nconnect_timeout_seconds = 9.0\n')
    monkeypatch.setenv("INBOXD_REDIS__URL", "redis://environment")

    settings = load_settings(file)

    assert settings.redis.url == "redis://environment"
    assert settings.redis.connect_timeout_seconds == 9.0


def test_the_command_line_overrides_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('host = "file"\n[redis]\nurl = "redis://file"\n')
    monkeypatch.setenv("INBOXD_HOST", "environment")
    monkeypatch.setenv("INBOXD_REDIS__URL", "redis://environment")
    monkeypatch.setenv("INBOXD_REDIS__SOCKET_TIMEOUT_SECONDS", "7.5")

    settings = load_settings(file, host="line", redis={"url": "redis://line"})

    assert (settings.host, settings.redis.url, settings.redis.socket_timeout_seconds) == ("line", "redis://line", 7.5)


def test_the_environment_overrides_defaults_but_not_the_keys_of_an_inbox(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f'[defaults]\nretries = 1\n{DROP}[inbox.own]\nroot = "own"\nretries = 2\n')
    monkeypatch.setenv("INBOXD_DEFAULTS__RETRIES", "8")

    settings = load_settings(file)

    assert {name: inbox.retries for name, inbox in settings.inbox.items()} == {"drop": 8, "own": 2}


def test_the_environment_overrides_the_keys_of_an_inbox(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(DROP)
    monkeypatch.setenv("INBOXD_INBOX__DROP__RETRIES", "8")
    monkeypatch.setenv("INBOXD_INBOX__DROP__INCLUDE", '["*.pdf"]')

    inbox = load_settings(file).inbox["drop"]

    assert (inbox.retries, inbox.include) == (8, ("*.pdf",))


def test_relative_paths_in_the_file_are_relative_to_its_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f'state_dir = "../state"\n{DROP}[inbox.far]\nroot = "/srv/far"\n')
    monkeypatch.chdir("/")

    settings = load_settings(file)

    assert settings.state_dir == file.parent.parent / "state"
    assert {name: inbox.root for name, inbox in settings.inbox.items()} == {
        "drop": file.parent / "drop",
        "far": PurePath("/srv/far"),
    }


def test_a_relative_file_name_is_relative_to_the_current_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(DROP)
    monkeypatch.chdir(file.parent)

    settings = load_settings(Path(file.name))

    assert settings.inbox["drop"].root == file.parent / "drop"


def test_the_host_defaults_to_the_machines_host_name(file: Path) -> None:
    file.write_text(DROP)

    assert load_settings(file).host == socket.gethostname()
    assert load_settings(file, host="mine").host == "mine"


def test_loaded_settings_are_immutable(file: Path) -> None:
    file.write_text(DROP)
    settings = load_settings(file)

    with pytest.raises(ValidationError, match="frozen"):
        settings.host = "changed"
    with pytest.raises(ValidationError, match="frozen"):
        settings.inbox["drop"].retries = 7


# the settings file


def test_an_argument_overrides_the_file_in_the_environment(file: Path, tmp_path: Path) -> None:
    file.touch()
    other = tmp_path / "other.toml"
    other.touch()

    assert find_settings(file, {"INBOXD_SETTINGS": str(other)}) == file
    assert find_settings(None, {"INBOXD_SETTINGS": str(other)}) == other


def test_the_default_is_settings_toml_in_the_current_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    file.touch()
    monkeypatch.chdir(file.parent)

    assert find_settings(None, {}) == file
    assert find_settings(None, {"INBOXD_SETTINGS": ""}) == file


def test_a_missing_file_is_a_finding_with_the_default_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("inboxd.config.loading.DEFAULT_FILES", (Path("settings.toml"), tmp_path / "etc" / "settings.toml"))

    with pytest.raises(SettingsError, match=r"tried settings.toml and .*/etc/settings.toml") as caught:
        find_settings(None, {})

    assert "--settings FILE or INBOXD_SETTINGS" in caught.value.findings[0].remedy
    assert "inboxd init" in caught.value.findings[0].remedy


def test_root_is_told_how_to_name_the_settings_in_the_current_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.touch()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("inboxd.config.loading.DEFAULT_FILES", (Path("settings.toml"), file.parent / "none.toml"))
    monkeypatch.chdir(file.parent)

    with pytest.raises(SettingsError) as caught:
        find_settings(None, {})

    assert "for root, ./settings.toml does not count" in caught.value.findings[0].problem
    assert caught.value.findings[0].remedy == "name it: --settings settings.toml, or INBOXD_SETTINGS=settings.toml"


@pytest.mark.parametrize("name", ["missing.toml", ".", "settings.toml/below"])
def test_a_path_that_is_not_a_file_is_a_finding(name: str, file: Path) -> None:
    file.touch()

    with pytest.raises(SettingsError, match="is not a file"):
        load_settings(file.parent / name)


def test_a_file_in_an_inaccessible_folder_is_a_finding(public_folder: Path) -> None:
    file = public_folder / "settings.toml"
    file.write_text(DROP)
    public_folder.chmod(0o000)

    with as_unprivileged_user(), pytest.raises(SettingsError, match=r"settings\.toml"):
        load_settings(file)


def test_an_unreadable_file_is_a_finding(public_folder: Path) -> None:
    file = public_folder / "settings.toml"
    file.write_text(DROP)
    file.chmod(0o000)

    with as_unprivileged_user(), pytest.raises(SettingsError) as caught:
        load_settings(file)

    assert [str(finding) for finding in caught.value.findings] == [
        f"{file}: can't be read: Permission denied\n    remedy: make the file readable"
    ]


# findings


@pytest.mark.parametrize("text", ["= 1", "[redis\n", '[redis]\nurl = "a"\nurl = "b"\n', "host = here"], ids=repr)
def test_invalid_toml_is_a_finding_with_its_line(text: str, file: Path) -> None:
    finding = single_finding(file, text)

    assert finding.where == str(file)
    assert "is not valid TOML: " in finding.problem
    assert "line" in finding.problem


def test_invalid_utf8_is_a_finding(file: Path) -> None:
    finding = single_finding(file, 'host = "Jürgen"'.encode("latin-1"))

    assert finding.where == str(file)
    assert finding.problem.startswith("is not UTF-8: ")
    assert finding.remedy == "save the file as UTF-8"


@pytest.mark.parametrize(
    ("text", "key", "suggested"),
    [
        ('hots = "a"', "hots", "host"),
        ('[redis]\nurI = ""', "redis.urI", "url"),
        ("[work]\nlease = 5", "work.lease", "lease_seconds"),
        ("[sweep]\ngrace_second = 5", "sweep.grace_second", "grace_seconds"),
        ('[log]\nlevels = "info"', "log.levels", "level"),
        ("[defaults]\nretrys = 1", "defaults.retrys", "retries"),
        (f"{DROP}settle = 1", "inbox.drop.settle", "settle_seconds"),
        ("[inboxes.drop]\nroot = 'x'", "inboxes", "inbox"),
    ],
)
def test_an_unknown_key_is_a_finding_with_a_similar_key(text: str, key: str, suggested: str, file: Path) -> None:
    finding = single_finding(file, text)

    assert str(finding) == f"{key} ({file}): is not a known setting\n    remedy: did you mean {suggested}?"


def test_the_remedy_for_a_dissimilar_key_lists_the_known_keys(file: Path) -> None:
    finding = single_finding(file, "[log]\nxyzzy = 1")

    assert finding.remedy == "remove it; the keys are level, format, file, file_bytes_max, files_kept, files"


def test_the_name_of_an_inbox_is_not_a_key(file: Path) -> None:
    finding = single_finding(file, f'{DROP}name = "other"')

    assert finding.where == f"inbox.drop.name ({file})"
    assert finding.problem == "is not a known setting"


@pytest.mark.parametrize(
    ("variable", "suggested"), [("INBOXD_REDISS__URL", "redis"), ("INBOXD_HOTS", "host"), ("INBOXD_REDIS_URL", "redis")]
)
def test_an_unknown_variable_is_a_finding(variable: str, suggested: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "x")

    finding = single_finding(file, DROP)

    assert str(finding) == f"{variable}: is not a known setting\n    remedy: did you mean {suggested}?"


def test_a_variable_with_an_unknown_key_is_a_finding(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_REDIS__ULR", "x")

    finding = single_finding(file, DROP)

    assert str(finding) == "redis.ulr (INBOXD_REDIS__ULR): is not a known setting\n    remedy: did you mean url?"


def test_the_variable_that_names_the_file_is_accepted(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(DROP)
    monkeypatch.setenv("INBOXD_SETTINGS", str(file))

    assert set(load_settings().inbox) == {"drop"}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("host = 5", "host", "5"),
        ("[redis]\nurl = 5", "redis.url", "5"),
        ('[work]\nconcurrency = "many"', "work.concurrency", "many"),
        ("[sweep]\nmissed_seconds = 0", "sweep.missed_seconds", "0"),
        ('[log]\nlevel = "loud"', "log.level", "loud"),
        ("[defaults]\nretries = 1.5", "defaults.retries", "1.5"),
        ('[defaults]\nunsure_seconds = "soon"', "defaults.unsure_seconds", "soon"),
        ("[defaults]\nunsure_seconds = -1", "defaults.unsure_seconds", "-1"),
        ('[defaults]\nhandler = "nothing"', "defaults.handler", "nothing"),
        (f"{DROP}retries = -1", "inbox.drop.retries", "-1"),
    ],
)
def test_an_invalid_value_is_one_finding_with_its_key_and_file(text: str, key: str, value: str, file: Path) -> None:
    finding = single_finding(file, text)

    assert finding.where == f"{key} = {value!r} ({file})"
    assert finding.remedy.startswith(("write ", "correct "))


def test_an_error_in_the_defaults_is_one_finding_for_all_inboxes(file: Path) -> None:
    text = f'[defaults]\nretries = -1\nbogus = 1\nunsure_seconds = "soon"\n{DROP}[inbox.b]\nroot = "b"\n[inbox.c]\nroot = "c"\n'

    reported = findings(file, text)

    assert {finding.where.split()[0] for finding in reported} == {
        "defaults.retries",
        "defaults.bogus",
        "defaults.unsure_seconds",
    }
    assert len(reported) == 3


def test_all_errors_are_reported_at_once(file: Path) -> None:
    reported = findings(file, f"[redis]\nurl = 5\n[work]\nbogus = 1\n{DROP}retries = -1\n[inbox.b]\n")

    assert sorted(finding.where.split()[0] for finding in reported) == [
        "inbox.b.root",
        "inbox.drop.retries",
        "redis.url",
        "work.bogus",
    ]


def test_an_inbox_without_a_root_is_a_finding(file: Path) -> None:
    finding = single_finding(file, "[inbox.drop]\nretries = 1\n")

    assert str(finding) == f'inbox.drop.root ({file}): is missing\n    remedy: set root = "/path/of/the/folder"'


@pytest.mark.parametrize(
    ("variable", "value"),
    [("INBOXD_WORK__CONCURRENCY", "many"), ("INBOXD_WORK", '{"concurrency": "many"}'), ("inboxd_work__concurrency", "many")],
)
def test_an_invalid_value_in_the_environment_is_a_finding_with_its_variable(
    variable: str, value: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    finding = single_finding(file, DROP)

    assert finding.where == f"work.concurrency = 'many' ({variable})"


def test_an_invalid_value_on_the_command_line_does_not_name_the_file(file: Path) -> None:
    finding = single_finding(file, DROP, work={"concurrency": "many"})

    assert "work.concurrency = 'many'" in finding.where
    assert str(file) not in finding.where


def test_invalid_json_in_the_environment_is_a_finding(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_REDIS", "url=x")

    finding = single_finding(file, DROP)

    assert finding.where == "INBOXD_REDIS"
    assert finding.problem == "is not JSON"
    assert "JSON" in finding.remedy


@pytest.mark.parametrize("text", ["inbox = 5", "[inbox]\ndrop = 'x'", "defaults = 3", "redis = []", "[[inbox]]\nroot = 'x'"])
def test_a_value_that_should_be_a_table_is_a_finding(text: str, file: Path) -> None:
    finding = single_finding(file, text)

    assert str(file) in finding.where


def test_an_invalid_inbox_name_is_a_finding(file: Path) -> None:
    finding = single_finding(file, '[inbox."My Drop"]\nroot = "x"')

    assert finding.where.startswith("inbox.My Drop = ")
    assert finding.problem == "is not a name for an inbox"


def test_a_finding_for_dependent_limits_names_both_keys(file: Path) -> None:
    finding = single_finding(file, f"[redis]\nvisibility_timeout_seconds = 400\n[defaults]\ntime_limit_seconds = 380\n{DROP}")

    assert finding.where == f"inbox.drop.time_limit_seconds ({file})"
    assert "below redis.visibility_timeout_seconds = 400" in finding.problem
    assert finding.remedy == "change one of these two settings"


def test_a_long_invalid_value_is_truncated(file: Path) -> None:
    finding = single_finding(file, f'[work]\nconcurrency = "{"x" * 5000}"')

    assert len(finding.where) < 300 + len(str(file))


def test_the_credential_overrides_the_file_but_not_the_environment(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f'redis = {{ url = "redis://file", result_expires_seconds = 700 }}\n{DROP}')
    (tmp_path / "redis-url").write_text("redis://:secret@credential\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    from_credential = load_settings(file).redis
    monkeypatch.setenv("INBOXD_REDIS__URL", "redis://environment")
    from_environment = load_settings(file).redis

    assert (from_credential.url, from_credential.result_expires_seconds) == ("redis://:secret@credential", 700)
    assert from_environment.url == "redis://environment"


@pytest.mark.parametrize("text", ["", "\n", None])
def test_an_empty_or_missing_credential_leaves_the_files_url(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    file.write_text(f'redis = {{ url = "redis://file" }}\n{DROP}')
    if text is not None:
        (tmp_path / "redis-url").write_text(text)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert load_settings(file).redis.url == "redis://file"


@pytest.mark.parametrize("raw", [b"redis://:secret@one redis://two", b"redis://:secret@\xff", b"redis://:secret@a\nb"])
def test_an_invalid_credential_is_a_finding_without_its_text(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    (tmp_path / "redis-url").write_bytes(raw)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    finding = single_finding(file, DROP)

    assert finding.where == f"redis.url ({tmp_path / 'redis-url'})"
    assert "secret" not in str(finding)


@pytest.mark.parametrize(
    ("text", "key", "where"),
    [
        ('concurrency = 4\n[inbox.drop]\nroot = "a"\n', "concurrency", "[work]"),
        ('[inbox.drop]\nroot = "a"\nnamespace = "b"\n', "inbox.drop.namespace", "[redis]"),
        ('[redis]\nhost = "h"\n[inbox.drop]\nroot = "a"\n', "redis.host", "the top of the file"),
        ('settle_seconds = 1\n[inbox.drop]\nroot = "a"\n', "settle_seconds", "[defaults]"),
        ('[defaults]\nroot = "b"\n[inbox.drop]\nroot = "a"\n', "defaults.root", "[inbox.NAME]"),
    ],
)
def test_a_key_in_the_wrong_table_is_told_where_it_belongs(file: Path, text: str, key: str, where: str) -> None:
    file.write_text(text)

    with pytest.raises(SettingsError) as caught:
        load_settings(file)

    (finding,) = [finding for finding in caught.value.findings if finding.where.startswith(f"{key} ")]
    assert finding.problem == "is not a known setting here"
    assert f"move it to {where}" in finding.remedy


def test_a_byte_order_mark_is_named(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf[inbox.drop]\nroot = "a"\n')

    with pytest.raises(SettingsError, match="begins with a byte order mark"):
        load_settings(file)
