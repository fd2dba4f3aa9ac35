"""What is wrong with a value is said in words of ours, whatever key and value it is."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from inboxd.config.findings import to_findings
from inboxd.config.rules import Inbox, Rules
from inboxd.config.settings import Settings
from inboxd.errors import Finding

WRONG_VALUES: list[Any] = [
    "", "text", "-1", "1.5", "9" * 5000, "\ud800", 0, -1, 10**30, 10**5000, 0.5, -0.5, 1e300, math.nan, math.inf, True,
    [], ["text"], [1], [[1]], {}, {"key": 1}, datetime(2026, 1, 1, tzinfo=UTC), None,
]  # fmt: skip
FOREIGN_WORDS = (
    "Input ",
    "input ",
    "valid ",
    "String ",
    "Value error",
    "Field ",
    "Extra ",
    "unable ",
    "unit separator",
    "pydantic",
    "NaN",
)


def find(settings: dict[str, Any]) -> list[Finding]:
    try:
        Settings(**settings)
    except ValidationError as error:
        return list(to_findings(error, lambda _: "settings.toml"))
    return []


def put(table: str, key: str, value: object) -> dict[str, Any]:
    """Return settings with one value at a key of a table, of an inbox or of the top."""
    if table == "inbox":
        return {"inbox": {"drop": {"root": "drop", key: value}}}
    return {table: {key: value}} if table else {key: value}


def all_keys() -> list[tuple[str, str]]:
    tables = {name: field.annotation for name, field in Settings.model_fields.items()}
    keys = [(table, key) for table, model in tables.items() if isinstance(model, type) and issubclass(model, BaseModel)
            for key in model.model_fields]  # fmt: skip
    return [*keys, *(("inbox", key) for key in Inbox.model_fields if key != "name"), *(("", key) for key in tables)]


@pytest.mark.parametrize(("table", "key"), all_keys())
def test_no_wrong_value_of_any_key_is_described_in_words_of_pydantic(table: str, key: str) -> None:
    findings = [finding for value in WRONG_VALUES for finding in find(put(table, key, value))]

    assert findings
    for finding in findings:
        text = f"{finding.problem} {finding.remedy}"
        assert not [word for word in FOREIGN_WORDS if word in text], text
        assert "{" not in finding.remedy
        assert "can't be used here" not in text, f"an error without words of its own: {finding}"


def test_an_error_that_has_no_words_of_its_own_is_described_without_pydantics() -> None:
    [finding] = to_findings(
        ValidationError.from_exception_data("Rules", [{"type": "url_type", "loc": ("host",)}]), lambda _: "f"
    )

    assert (finding.problem, finding.remedy) == ("can't be used here", "docs/settings.md says what host may be")


@pytest.mark.parametrize(
    ("table", "key", "value", "problem", "remedy"),
    [
        ("inbox", "include", 5, "is not a list", 'write a list: ["first", "second"]'),
        ("inbox", "retries", 101, "is too large", "write at most 100"),
        ("work", "lease_seconds", 1, "is too small", "write at least 3 seconds"),
        ("sweep", "stale_seconds", 0, "is too small", "write more than 0 seconds"),
        ("inbox", "inline_bytes_max", 10**9, "is too large", "write at most 262_144 bytes"),
        ("inbox", "time_limit_seconds", 1.5, "is not a whole number", "write a whole number of seconds"),
        ("inbox", "retries", "many", "is not a whole number", "write a whole number"),
        ("inbox", "recursive", "perhaps", "is neither true nor false", "write true or false, without quotes"),
        ("inbox", "claim", "steal", "is a word that is not known here", 'write "rename" or "copy"'),
        ("log", "level", "loud", "is a word that is not known here", 'write "debug", "info", "warning" or "error"'),
        ("inbox", "unsure_seconds", -1, "is too small", 'write at least 0 seconds, or write "auto"'),
        ("inbox", "root", 5, "is not a path", 'write a path in quotes, such as "/srv/drop"'),
        ("", "redis", 5, "is not a table", "write a table: [redis], and its keys below it"),
        ("", "inbox", {"drop": 5}, "is not a table", "write a table: [inbox.drop], and its keys below it"),
        ("", "inbox", {"drop": {}}, "is missing", 'set root = "/path/of/the/folder"'),
        ("", "host", 5, "is not a text", "write a text in quotes"),
        ("inbox", "keep_done_days", math.inf, "is not a finite number", "write a number of days"),
    ],
)
def test_a_finding_says_what_to_write(table: str, key: str, value: object, problem: str, remedy: str) -> None:
    [finding] = find(put(table, key, value))

    assert (finding.problem, finding.remedy) == (problem, remedy)


def test_a_name_of_an_inbox_is_described_by_what_it_may_have() -> None:
    [finding] = find({"inbox": {"My Inbox": {"root": "drop"}}})

    assert finding.problem == "is not a name for an inbox"
    assert finding.remedy.startswith("use lower case letters, digits, - and _")


def test_every_limit_of_the_rules_is_tried() -> None:
    keys = {key for table, key in all_keys() if table == "inbox"}

    assert keys == {*Rules.model_fields, "root"}


def test_a_number_that_python_does_not_print_is_a_finding() -> None:
    [finding] = find(put("inbox", "retries", 16**5000))

    assert finding.where == "inbox.drop.retries = a number of thousands of digits (settings.toml)"
    assert finding.remedy == "write at most 100"
