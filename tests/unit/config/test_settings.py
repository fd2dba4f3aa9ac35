"""Keys, limits, limits that depend on each other, and settings.toml, which lists all keys with their defaults."""

import re
import tomllib
from collections import Counter
from pathlib import PurePath
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from support.repository import REPOSITORY

from inboxd.config.rules import Inbox, Rules
from inboxd.config.settings import Settings
from inboxd.config.tables import Log, Metrics, Notify, Redis, Stage, Sweep, Web, Work

FILE = REPOSITORY / "settings.toml"

TABLES: dict[str, type[BaseModel]] = {
    "redis": Redis,
    "work": Work,
    "sweep": Sweep,
    "log": Log,
    "metrics": Metrics,
    "notify": Notify,
    "stage": Stage,
    "web": Web,
    "defaults": Rules,
}

ROOT = {"root": "/srv/drop"}


def with_inbox(**tables: dict[str, Any]) -> Settings:
    return Settings(inbox={"drop": ROOT}, **tables)


def default_values(model: type[BaseModel]) -> dict[str, Any]:
    """Return the default of each key, in TOML's types."""
    values = {key: field.default for key, field in model.model_fields.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def file_lines() -> list[tuple[str, str, str]]:
    """Return table, key and comment of each line of settings.toml that sets a key."""
    lines, table = [], ""
    for line in FILE.read_text("utf-8").splitlines():
        if header := re.match(r"\[(.+?)\]", line):
            table = header[1]
        elif setting := re.match(r"(\w+) = (?:[^#\"]|\"[^\"]*\")*(#.*)?$", line):
            lines.append((table, setting[1], setting[2] or ""))
    return lines


def test_an_inbox_without_keys_has_the_defaults() -> None:
    inbox = with_inbox().inbox["drop"]

    assert inbox == Inbox(name="drop", root=PurePath("/srv/drop"))


def test_an_inbox_inherits_the_defaults_that_it_does_not_override() -> None:
    inboxes = {"a": ROOT, "b": {**ROOT, "retries": 1}}

    settings = Settings(defaults={"retries": 9, "include": ["*.pdf"]}, inbox=inboxes)

    assert (settings.inbox["a"].retries, settings.inbox["a"].include) == (9, ("*.pdf",))
    assert (settings.inbox["b"].retries, settings.inbox["b"].include) == (1, ("*.pdf",))


def test_an_inbox_has_the_name_of_its_table() -> None:
    settings = Settings(inbox={"a-1": ROOT, "b_2": ROOT})

    assert [inbox.name for inbox in settings.inbox.values()] == ["a-1", "b_2"]


def test_settings_are_immutable() -> None:
    settings = with_inbox()

    for part, key in ((settings, "host"), (settings.redis, "url"), (settings.inbox["drop"], "retries")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, key, "changed")


@pytest.mark.parametrize("table", [*TABLES, "inbox"])
def test_an_unknown_key_is_refused(table: str) -> None:
    tables = {"inbox": {"drop": {**ROOT, "bogus": 1}}} if table == "inbox" else {table: {"bogus": 1}}

    with pytest.raises(ValidationError, match=r"bogus\n.*Extra inputs are not permitted"):
        Settings(**tables)


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "-a", "ä", "a" * 65, "a.b"], ids=repr)
def test_an_invalid_inbox_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        Settings(inbox={name: ROOT})


@pytest.mark.parametrize("handler", ["", "describe", "inboxd.handlers", "a:b:c", "a:b()", "a b:c"], ids=repr)
def test_a_handler_without_the_form_module_function_is_refused(handler: str) -> None:
    with pytest.raises(ValidationError, match="module:function"):
        with_inbox(defaults={"handler": handler})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retries", -1), ("retries", 101), ("depth_max", 0), ("poll_seconds", 0), ("poll_seconds", float("inf")),
        ("settle_seconds", -0.1), ("settle_seconds", float("nan")), ("unsure_seconds", -1), ("inline_bytes_max", 262_145),
        ("parcel_files_max", 0), ("parcel_bytes_max", 1023), ("in_flight_files_max", 0), ("keep_done_days", -1),
        ("watch_mode", "magic"), ("empty_folders", "burn"), ("time_limit_seconds", 0), ("size_bytes_max", -1),
    ],
)  # fmt: skip
def test_a_value_outside_its_limits_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=rf"defaults\.{key}"):
        with_inbox(defaults={key: value})


@pytest.mark.parametrize(("time_limit", "is_valid"), [(574, True), (575, False)])
def test_the_time_limit_must_be_below_the_visibility_timeout(time_limit: int, is_valid: bool) -> None:
    tables = {"redis": {"visibility_timeout_seconds": 600}, "work": {"lease_seconds": 15.0}}

    error = validation_error(defaults={"time_limit_seconds": time_limit}, **tables)

    assert (error is None) is is_valid
    assert is_valid or "inbox.drop.time_limit_seconds: 575 is too long" in str(error)


@pytest.mark.parametrize(("longest", "is_valid"), [(599.9, True), (600.0, False)])
def test_the_retry_delay_must_be_below_the_visibility_timeout(longest: float, is_valid: bool) -> None:
    error = validation_error(redis={"visibility_timeout_seconds": 600}, defaults={"retry_backoff_max_seconds": longest})

    assert (error is None) is is_valid
    assert is_valid or "inbox.drop.retry_backoff_max_seconds: 600 must be below" in str(error)


@pytest.mark.parametrize(("grace", "is_valid"), [(15.0, True), (15.5, False)])
def test_the_grace_of_the_sweep_must_not_exceed_the_lease(grace: float, is_valid: bool) -> None:
    error = validation_error(sweep={"grace_seconds": grace})

    assert (error is None) is is_valid
    assert is_valid or "sweep.grace_seconds: 15.5 must not be above work.lease_seconds = 15" in str(error)


def validation_error(**tables: dict[str, Any]) -> ValidationError | None:
    try:
        with_inbox(**tables)
    except ValidationError as error:
        return error
    return None


def test_settings_toml_lists_and_explains_each_key_once() -> None:
    expected = [("", key) for key in Settings.model_fields if key not in {*TABLES, "inbox"}]
    expected += [(table, key) for table, model in TABLES.items() for key in model.model_fields]

    lines = [line for line in file_lines() if not line[0].startswith("inbox.")]

    assert Counter((table, key) for table, key, _ in lines) == Counter(expected)
    assert [key for _, key, comment in lines if len(comment) < len("# comment")] == []


@pytest.mark.parametrize("table", TABLES)
def test_settings_toml_has_the_default_of_each_key(table: str) -> None:
    parsed = tomllib.loads(FILE.read_text("utf-8"))[table]

    assert parsed == default_values(TABLES[table])
    assert {key: type(value) for key, value in parsed.items()} == {
        key: type(value) for key, value in default_values(TABLES[table]).items()
    }


def test_settings_toml_is_equal_to_the_defaults() -> None:
    parsed = tomllib.loads(FILE.read_text("utf-8"))

    settings = Settings(**parsed)

    assert settings == Settings(inbox={"drop": {"root": "drop"}})


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "localhost:80", "[::1]:8080", "unix:/run/inboxd-web/web.sock"])
def test_the_page_needs_no_password_where_only_this_host_can_connect(listen: str) -> None:
    assert with_inbox(web={"listen": listen}).web.is_local


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80"])
def test_the_page_needs_a_password_where_other_hosts_can_connect(listen: str) -> None:
    with pytest.raises(ValidationError, match=r"reachable from other hosts: set web\.password_file"):
        with_inbox(web={"listen": listen})
    with pytest.raises(ValidationError, match="reachable from other hosts"):
        with_inbox(web={"listen": listen, "trusted_header": "X-Remote-User"})

    assert not with_inbox(web={"listen": listen, "password_file": "/etc/inboxd/web-password"}).web.is_local


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("listen", "unix:web.sock", "is absolute"),
        ("listen", "8080", "the form IP:port"),
        ("listen", "example.org:80", "the form IP:port"),
        ("trusted_header", "X User", "letters, digits and -"),
    ],
)
def test_an_invalid_key_of_the_page_is_refused(key: str, value: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        with_inbox(web={key: value})


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("/mnt/shared", "has a URL such as"), ("s3:/bucket", "has a URL such as"), ("S3 bucket", "has a URL such as"),
        ("sftp://user:secret@host/x", "stage.secret_file"), ("s3://", "a bucket or a host"), ("s3:///x", "a bucket or a host"),
        ("file://shared/x", "file:///mnt/folder"), ("file:///", "file:///mnt/folder"),
    ],
)  # fmt: skip
def test_a_store_has_a_url_without_a_password(url: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Stage(url=url)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/a/", "sftp://user@h:22/a", "file:///mnt/a b", "abfs://x@y/z", ""])
def test_a_stores_url_is_taken(url: str) -> None:
    assert Stage(url=url).url == url.rstrip("/")
