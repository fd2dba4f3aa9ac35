"""The keys, their limits, the limits that depend on each other, and the file that lists them all."""

import re
import tomllib
from collections import Counter
from pathlib import PurePath
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from support.repository import REPOSITORY

from inboxd.config.settings import Inbox, Log, Metrics, Redis, Rules, Settings, Sweep, Work

FILE = REPOSITORY / "settings.toml"

TABLES: dict[str, type[BaseModel]] = {
    "redis": Redis,
    "work": Work,
    "sweep": Sweep,
    "log": Log,
    "metrics": Metrics,
    "defaults": Rules,
}

ROOT = {"root": "/srv/drop"}


def with_inbox(**tables: dict[str, Any]) -> Settings:
    return Settings(inbox={"drop": ROOT}, **tables)


def default_values(model: type[BaseModel]) -> dict[str, Any]:
    """Return each key's default as TOML would give it."""
    values = {key: field.default for key, field in model.model_fields.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def file_lines() -> list[tuple[str, str, str]]:
    """Return table, key and comment of each line of the file that sets a key."""
    found, table = [], ""
    for line in FILE.read_text("utf-8").splitlines():
        if header := re.match(r"\[(.+?)\]", line):
            table = header[1]
        elif setting := re.match(r"(\w+) = (?:[^#\"]|\"[^\"]*\")*(#.*)?$", line):
            found.append((table, setting[1], setting[2] or ""))
    return found


def test_an_inbox_that_sets_nothing_has_the_defaults_of_the_model() -> None:
    inbox = with_inbox().inbox["drop"]

    assert inbox == Inbox(name="drop", root=PurePath("/srv/drop"))


def test_defaults_fill_in_what_an_inbox_does_not_set_itself() -> None:
    inboxes = {"a": ROOT, "b": {**ROOT, "retries": 1}}

    settings = Settings(defaults={"retries": 9, "include": ["*.pdf"]}, inbox=inboxes)

    assert (settings.inbox["a"].retries, settings.inbox["a"].include) == (9, ("*.pdf",))
    assert (settings.inbox["b"].retries, settings.inbox["b"].include) == (1, ("*.pdf",))


def test_an_inbox_has_the_name_of_its_table() -> None:
    settings = Settings(inbox={"a-1": ROOT, "b_2": ROOT})

    assert [inbox.name for inbox in settings.inbox.values()] == ["a-1", "b_2"]


def test_settings_can_not_be_changed() -> None:
    settings = with_inbox()

    for part, key in ((settings, "host"), (settings.redis, "url"), (settings.inbox["drop"], "retries")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, key, "changed")


@pytest.mark.parametrize("table", [*TABLES, "inbox"])
def test_a_key_that_no_table_knows_is_refused(table: str) -> None:
    tables = {"inbox": {"drop": {**ROOT, "bogus": 1}}} if table == "inbox" else {table: {"bogus": 1}}

    with pytest.raises(ValidationError, match=r"bogus\n.*Extra inputs are not permitted"):
        Settings(**tables)


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "-a", "ä", "a" * 65, "a.b"], ids=repr)
def test_a_name_that_is_unfit_for_an_inbox_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        Settings(inbox={name: ROOT})


@pytest.mark.parametrize("handler", ["", "describe", "inboxd.handlers", "a:b:c", "a:b()", "a b:c"], ids=repr)
def test_a_handler_is_written_as_module_and_function(handler: str) -> None:
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


@pytest.mark.parametrize(("time_limit", "fits"), [(574, True), (575, False)])
def test_a_running_parcel_is_never_handed_out_again(time_limit: int, fits: bool) -> None:
    tables = {"redis": {"visibility_timeout_seconds": 600}, "work": {"lease_seconds": 15.0}}

    problem = refused(defaults={"time_limit_seconds": time_limit}, **tables)

    assert (problem is None) is fits
    assert fits or "inbox.drop.time_limit_seconds: 575 is above the visibility timeout" in str(problem)


@pytest.mark.parametrize(("longest", "fits"), [(599.9, True), (600.0, False)])
def test_a_waiting_retry_is_never_handed_out_twice(longest: float, fits: bool) -> None:
    problem = refused(redis={"visibility_timeout_seconds": 600}, defaults={"retry_backoff_max_seconds": longest})

    assert (problem is None) is fits
    assert fits or "inbox.drop.retry_backoff_max_seconds: 600 must be below" in str(problem)


@pytest.mark.parametrize(("grace", "fits"), [(15.0, True), (15.5, False)])
def test_the_grace_of_the_sweep_is_not_above_the_lease(grace: float, fits: bool) -> None:
    problem = refused(sweep={"grace_seconds": grace})

    assert (problem is None) is fits
    assert fits or "sweep.grace_seconds: 15.5 must not be above work.lease_seconds = 15" in str(problem)


def refused(**tables: dict[str, Any]) -> ValidationError | None:
    try:
        with_inbox(**tables)
    except ValidationError as error:
        return error
    return None


def test_the_file_lists_every_key_once_and_says_what_it_means() -> None:
    expected = [("", key) for key in Settings.model_fields if key not in {*TABLES, "inbox"}]
    expected += [(table, key) for table, model in TABLES.items() for key in model.model_fields]

    lines = [line for line in file_lines() if not line[0].startswith("inbox.")]

    assert Counter((table, key) for table, key, _ in lines) == Counter(expected)
    assert [key for _, key, comment in lines if len(comment) < len("# so long")] == []


@pytest.mark.parametrize("table", TABLES)
def test_the_file_has_the_default_of_every_key(table: str) -> None:
    listed = tomllib.loads(FILE.read_text("utf-8"))[table]

    assert listed == default_values(TABLES[table])
    assert {key: type(value) for key, value in listed.items()} == {
        key: type(value) for key, value in default_values(TABLES[table]).items()
    }


def test_the_file_as_a_whole_is_what_the_model_has_by_default() -> None:
    listed = tomllib.loads(FILE.read_text("utf-8"))

    settings = Settings(**listed)

    assert settings == Settings(inbox={"drop": {"root": "drop"}})
