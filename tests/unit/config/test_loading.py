"""Reading the settings: what wins over what, and what is wrong told in words that help."""

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
NOBODY = 65534


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("INBOXD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


@pytest.fixture
def public() -> Iterator[Path]:
    """Make a folder that every user can reach; those above tmp_path are ours alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)


def findings(file: Path, text: str | bytes, **overrides: object) -> list[Finding]:
    """Return what is wrong with these settings."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, **overrides)
    return caught.value.findings


def the_finding(file: Path, text: str | bytes, **overrides: object) -> Finding:
    """Return the one thing that is wrong with these settings."""
    found = findings(file, text, **overrides)
    assert len(found) == 1, found
    return found[0]


@contextlib.contextmanager
def as_a_user() -> Iterator[None]:
    """Be somebody whom permissions stop; root is nobody meanwhile."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


# what wins over what


def test_a_file_wins_over_the_defaults(file: Path) -> None:
    file.write_text('[redis]\nurl = "redis://file"\n')

    settings = load_settings(file)

    assert settings.redis.url == "redis://file"
    assert settings.redis.connect_timeout_seconds == 2.0


def test_the_environment_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[redis]\nurl = "redis://file"\nconnect_timeout_seconds = 9.0\n')
    monkeypatch.setenv("INBOXD_REDIS__URL", "redis://environment")

    settings = load_settings(file)

    assert settings.redis.url == "redis://environment"
    assert settings.redis.connect_timeout_seconds == 9.0


def test_the_command_line_wins_over_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('host = "file"\n[redis]\nurl = "redis://file"\n')
    monkeypatch.setenv("INBOXD_HOST", "environment")
    monkeypatch.setenv("INBOXD_REDIS__URL", "redis://environment")
    monkeypatch.setenv("INBOXD_REDIS__SOCKET_TIMEOUT_SECONDS", "7.5")

    settings = load_settings(file, host="line", redis={"url": "redis://line"})

    assert (settings.host, settings.redis.url, settings.redis.socket_timeout_seconds) == ("line", "redis://line", 7.5)


def test_the_environment_reaches_the_defaults_of_every_inbox_but_not_what_an_inbox_sets(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f'[defaults]\nretries = 1\n{DROP}[inbox.own]\nroot = "own"\nretries = 2\n')
    monkeypatch.setenv("INBOXD_DEFAULTS__RETRIES", "8")

    settings = load_settings(file)

    assert {name: inbox.retries for name, inbox in settings.inbox.items()} == {"drop": 8, "own": 2}


def test_the_environment_reaches_one_inbox(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(DROP)
    monkeypatch.setenv("INBOXD_INBOX__DROP__RETRIES", "8")
    monkeypatch.setenv("INBOXD_INBOX__DROP__INCLUDE", '["*.pdf"]')

    inbox = load_settings(file).inbox["drop"]

    assert (inbox.retries, inbox.include) == (8, ("*.pdf",))


def test_relative_paths_count_from_the_files_folder_and_not_from_where_we_stand(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f'state_dir = "../state"\n{DROP}[inbox.far]\nroot = "/srv/far"\n')
    monkeypatch.chdir("/")

    settings = load_settings(file)

    assert settings.state_dir == file.parent.parent / "state"
    assert {name: inbox.root for name, inbox in settings.inbox.items()} == {
        "drop": file.parent / "drop",
        "far": PurePath("/srv/far"),
    }


def test_a_file_that_is_named_relatively_is_found_from_where_we_stand(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(DROP)
    monkeypatch.chdir(file.parent)

    settings = load_settings(Path(file.name))

    assert settings.inbox["drop"].root == file.parent / "drop"


def test_a_host_without_a_name_has_the_systems(file: Path) -> None:
    file.write_text(DROP)

    assert load_settings(file).host == socket.gethostname()
    assert load_settings(file, host="mine").host == "mine"


def test_what_was_loaded_can_not_be_changed(file: Path) -> None:
    file.write_text(DROP)
    settings = load_settings(file)

    with pytest.raises(ValidationError, match="frozen"):
        settings.host = "changed"
    with pytest.raises(ValidationError, match="frozen"):
        settings.inbox["drop"].retries = 7


# which file


def test_the_file_that_is_named_is_read_before_the_one_in_the_environment(file: Path, tmp_path: Path) -> None:
    file.touch()
    other = tmp_path / "other.toml"
    other.touch()

    assert find_settings(file, {"INBOXD_SETTINGS": str(other)}) == file
    assert find_settings(None, {"INBOXD_SETTINGS": str(other)}) == other


def test_without_a_name_the_file_beside_us_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.touch()
    monkeypatch.chdir(file.parent)

    assert find_settings(None, {}) == file
    assert find_settings(None, {"INBOXD_SETTINGS": ""}) == file


def test_where_no_file_is_we_say_where_we_have_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("inboxd.config.loading.DEFAULT_FILES", (Path("settings.toml"), tmp_path / "etc" / "settings.toml"))

    with pytest.raises(SettingsError, match=r"looked for settings.toml and .*/etc/settings.toml") as caught:
        find_settings(None, {})

    assert "--settings FILE or INBOXD_SETTINGS" in caught.value.findings[0].remedy


@pytest.mark.parametrize("name", ["missing.toml", ".", "settings.toml/below"])
def test_a_file_that_is_named_and_is_none_is_told(name: str, file: Path) -> None:
    file.touch()

    with pytest.raises(SettingsError, match="is not a file"):
        load_settings(file.parent / name)


def test_a_file_in_a_folder_that_is_closed_to_us_is_told(public: Path) -> None:
    file = public / "settings.toml"
    file.write_text(DROP)
    public.chmod(0o000)

    with as_a_user(), pytest.raises(SettingsError, match=r"settings\.toml"):
        load_settings(file)


def test_a_file_that_we_may_not_read_is_told(public: Path) -> None:
    file = public / "settings.toml"
    file.write_text(DROP)
    file.chmod(0o000)

    with as_a_user(), pytest.raises(SettingsError) as caught:
        load_settings(file)

    assert [str(found) for found in caught.value.findings] == [
        f"{file}: can't be read: Permission denied\n    remedy: make it readable"
    ]


# what is wrong


@pytest.mark.parametrize("text", ["= 1", "[redis\n", '[redis]\nurl = "a"\nurl = "b"\n', "host = here"], ids=repr)
def test_what_is_no_toml_is_told_with_its_line(text: str, file: Path) -> None:
    finding = the_finding(file, text)

    assert finding.where == str(file)
    assert "is not valid TOML: " in finding.problem
    assert "line" in finding.problem


def test_what_is_no_utf8_is_told(file: Path) -> None:
    finding = the_finding(file, 'host = "Jürgen"'.encode("latin-1"))

    assert finding.where == str(file)
    assert finding.problem.startswith("is not UTF-8: ")
    assert finding.remedy == "save it as UTF-8"


@pytest.mark.parametrize(
    ("text", "key", "meant"),
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
def test_a_key_that_no_table_knows_is_told_with_the_one_that_was_meant(text: str, key: str, meant: str, file: Path) -> None:
    finding = the_finding(file, text)

    assert str(finding) == f"{key} ({file}): is no setting\n    remedy: did you mean {meant}?"


def test_a_key_like_no_other_is_told_with_all_that_there_are(file: Path) -> None:
    finding = the_finding(file, "[log]\nxyzzy = 1")

    assert finding.remedy == "remove it; the keys are level, format, files"


def test_the_name_of_an_inbox_is_its_tables_and_no_key(file: Path) -> None:
    finding = the_finding(file, f'{DROP}name = "other"')

    assert finding.where == f"inbox.drop.name ({file})"
    assert finding.problem == "is no setting"


@pytest.mark.parametrize(
    ("variable", "meant"), [("INBOXD_REDISS__URL", "redis"), ("INBOXD_HOTS", "host"), ("INBOXD_REDIS_URL", "redis")]
)
def test_a_variable_that_names_no_key_is_told(variable: str, meant: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "x")

    finding = the_finding(file, DROP)

    assert str(finding) == f"{variable}: is no setting\n    remedy: did you mean {meant}?"


def test_a_variable_whose_table_does_not_know_its_key_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_REDIS__ULR", "x")

    finding = the_finding(file, DROP)

    assert str(finding) == "redis.ulr (INBOXD_REDIS__ULR): is no setting\n    remedy: did you mean url?"


def test_the_variable_that_names_the_file_is_no_setting_and_no_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_wrong_value_is_told_once_with_its_key_and_its_file(text: str, key: str, value: str, file: Path) -> None:
    finding = the_finding(file, text)

    assert finding.where == f"{key} = {value!r} ({file})"
    assert finding.remedy == f"set {key} to a value that fits"


def test_what_is_wrong_in_the_defaults_is_told_once_however_many_inboxes_there_are(file: Path) -> None:
    text = f'[defaults]\nretries = -1\nbogus = 1\nunsure_seconds = "soon"\n{DROP}[inbox.b]\nroot = "b"\n[inbox.c]\nroot = "c"\n'

    found = findings(file, text)

    assert {finding.where.split()[0] for finding in found} == {
        "defaults.retries",
        "defaults.bogus",
        "defaults.unsure_seconds",
    }
    assert len(found) == 3


def test_all_that_is_wrong_is_told_at_once(file: Path) -> None:
    found = findings(file, f"[redis]\nurl = 5\n[work]\nbogus = 1\n{DROP}retries = -1\n[inbox.b]\n")

    assert sorted(finding.where.split()[0] for finding in found) == [
        "inbox.b.root",
        "inbox.drop.retries",
        "redis.url",
        "work.bogus",
    ]


def test_an_inbox_without_a_root_is_told(file: Path) -> None:
    finding = the_finding(file, "[inbox.drop]\nretries = 1\n")

    assert str(finding) == f"inbox.drop.root ({file}): is missing\n    remedy: set it"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("INBOXD_WORK__CONCURRENCY", "many"), ("INBOXD_WORK", '{"concurrency": "many"}'), ("inboxd_work__concurrency", "many")],
)
def test_a_wrong_value_in_the_environment_is_told_with_its_variable(
    variable: str, value: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    finding = the_finding(file, DROP)

    assert finding.where == f"work.concurrency = 'many' ({variable})"


def test_a_wrong_value_on_the_command_line_is_not_blamed_on_the_file(file: Path) -> None:
    finding = the_finding(file, DROP, work={"concurrency": "many"})

    assert "work.concurrency = 'many'" in finding.where
    assert str(file) not in finding.where


def test_a_table_in_the_environment_that_is_no_json_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_REDIS", "url=x")

    finding = the_finding(file, DROP)

    assert finding.where == "environment"
    assert "redis" in finding.problem
    assert "JSON" in finding.remedy


@pytest.mark.parametrize("text", ["inbox = 5", "[inbox]\ndrop = 'x'", "defaults = 3", "redis = []", "[[inbox]]\nroot = 'x'"])
def test_a_table_that_is_none_is_told(text: str, file: Path) -> None:
    finding = the_finding(file, text)

    assert str(file) in finding.where


def test_a_name_that_is_unfit_for_an_inbox_is_told(file: Path) -> None:
    finding = the_finding(file, '[inbox."My Drop"]\nroot = "x"')

    assert finding.where.startswith("inbox.My Drop = ")
    assert "pattern" in finding.problem


def test_a_limit_that_depends_on_another_names_both_keys(file: Path) -> None:
    finding = the_finding(file, f"[redis]\nvisibility_timeout_seconds = 400\n[defaults]\ntime_limit_seconds = 380\n{DROP}")

    assert finding.where == f"inbox.drop.time_limit_seconds ({file})"
    assert "below redis.visibility_timeout_seconds = 400" in finding.problem
    assert finding.remedy == "change one of the two"


def test_a_long_wrong_value_is_cut(file: Path) -> None:
    finding = the_finding(file, f'[work]\nconcurrency = "{"x" * 5000}"')

    assert len(finding.where) < 300 + len(str(file))


def test_the_credential_wins_over_the_file_and_loses_to_the_environment(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f'redis = {{ url = "redis://file", result_expires_seconds = 700 }}\n{DROP}')
    (tmp_path / "redis-url").write_text("redis://:secret@credential\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    by_credential = load_settings(file).redis
    monkeypatch.setenv("INBOXD_REDIS__URL", "redis://environment")
    by_environment = load_settings(file).redis

    assert (by_credential.url, by_credential.result_expires_seconds) == ("redis://:secret@credential", 700)
    assert by_environment.url == "redis://environment"


@pytest.mark.parametrize("text", ["", "\n", None])
def test_a_credential_with_nothing_in_it_leaves_the_url_to_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    file.write_text(f'redis = {{ url = "redis://file" }}\n{DROP}')
    if text is not None:
        (tmp_path / "redis-url").write_text(text)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert load_settings(file).redis.url == "redis://file"


@pytest.mark.parametrize("raw", [b"redis://:secret@one redis://two", b"redis://:secret@\xff", b"redis://:secret@a\nb"])
def test_a_credential_that_is_no_url_is_named_and_not_shown(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    (tmp_path / "redis-url").write_bytes(raw)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    finding = the_finding(file, DROP)

    assert finding.where == f"redis.url ({tmp_path / 'redis-url'})"
    assert "secret" not in str(finding)
