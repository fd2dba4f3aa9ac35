"""Outcomes: the round trip through msgpack, and invalid results."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from inboxd.errors import InvalidMessage
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_from_wire, outcome_to_wire
from inboxd.spool.failure import Failure, FailureKind

ID = f"{1_700_000_000_000:012x}" + "ab" * 8

OUTCOME = Outcome(
    ID,
    "drop",
    2,
    (
        FileOutcome(b"caf\xe9.pdf", Verdict.DONE, result={"pages": [1, 2]}),
        FileOutcome(b"x/b", Verdict.REJECTED, "not an invoice"),
        FileOutcome(b"c", Verdict.RETRY_ISOLATED, "it raised", kind=FailureKind.TIME_LIMIT),
        FileOutcome(b"d", Verdict.REQUEUE),
        FileOutcome(b"e", Verdict.MISSING),
    ),
)


def wire(**changes: object) -> dict[str, Any]:
    return outcome_to_wire(OUTCOME) | changes


def with_file(**changes: object) -> dict[str, Any]:
    return wire(files=[wire()["files"][0] | changes])


def without(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def test_an_outcome_survives_msgpack() -> None:
    received = msgpack.unpackb(msgpack.packb(outcome_to_wire(OUTCOME)))

    assert outcome_from_wire(received) == OUTCOME


def test_verdicts_are_stored_as_plain_strings() -> None:
    verdicts = [file["verdict"] for file in wire()["files"]]

    assert verdicts == ["done", "rejected", "retry_isolated", "requeue", "missing"]
    assert {type(verdict) for verdict in verdicts} == {str}


def test_an_outcome_may_have_no_files() -> None:
    assert outcome_from_wire(wire(files=[])).files == ()


@pytest.mark.parametrize("message", [None, 1, "outcome", b"outcome", [], [1], {}], ids=repr)
def test_a_value_that_is_not_an_outcome_is_refused(message: object) -> None:
    with pytest.raises(InvalidMessage):
        outcome_from_wire(message)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]], ids=repr)
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(InvalidMessage, match="not a map of version 1"):
        outcome_from_wire(wire(version=version))


@pytest.mark.parametrize("key", ["version", "parcel", "inbox", "attempt", "files"])
def test_a_missing_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidMessage, match=f"malformed outcome: key '{key}' is missing"):
        outcome_from_wire(without(wire(), key))


@pytest.mark.parametrize("key", ["filename", "verdict", "reason", "result"])
def test_a_missing_key_of_a_file_is_refused(key: str) -> None:
    with pytest.raises(InvalidMessage, match=f"malformed outcome: key '{key}' is missing"):
        outcome_from_wire(wire(files=[without(wire()["files"][0], key)]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parcel", 5),
        ("parcel", None),
        ("parcel", ID.encode()),
        ("parcel", "abc"),
        ("parcel", "../" + ID[3:]),
        ("attempt", "often"),
        ("attempt", None),
        ("attempt", [1]),
        ("attempt", float("nan")),
        ("attempt", float("inf")),
        ("files", None),
        ("files", 3),
        ("files", "files"),
        ("files", [None]),
        ("files", [[]]),
        ("files", [b"file"]),
    ],
    ids=repr,
)
def test_a_value_of_the_wrong_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidMessage):
        outcome_from_wire(wire(**{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("filename", "a.pdf"),
        ("filename", None),
        ("filename", 7),
        ("filename", -1),
        ("filename", 2**63),
        ("filename", [97, 98]),
        ("filename", [300]),
        ("verdict", "perhaps"),
        ("verdict", None),
        ("verdict", []),
    ],
    ids=repr,
)
def test_a_files_value_of_the_wrong_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidMessage):
        outcome_from_wire(with_file(**{key: value}))


@pytest.mark.parametrize(
    "filename", [b"", b".", b"..", b"/", b"/etc/passwd", b"../a", b"a/../../b", b"./a", b"a//b", b"a/", b"a\0b"], ids=repr
)
def test_a_path_that_leads_outside_the_inbox_is_refused(filename: bytes) -> None:
    with pytest.raises(InvalidMessage, match="not a path below an inbox"):
        outcome_from_wire(with_file(filename=filename))


NUMBERS = st.integers(-1000, 1000) | st.sampled_from([2**63, 2**64 - 1, -(2**63)])
"""The extremes that msgpack carries, without numbers that exhaust the memory if they are used as a length."""
ANY_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=9) | st.binary(max_size=9) | st.just(ID),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FILES = st.fixed_dictionaries(
    {"reason": ANY_VALUES, "result": ANY_VALUES},
    optional={"filename": st.binary(max_size=9) | ANY_VALUES, "verdict": st.sampled_from([*Verdict]) | ANY_VALUES},
)
MESSAGES = ANY_VALUES | st.fixed_dictionaries(
    {"version": st.just(1), "parcel": st.just(ID) | ANY_VALUES, "inbox": st.just("drop") | ANY_VALUES},
    optional={"attempt": st.integers(1, 9) | ANY_VALUES, "files": st.lists(FILES | ANY_VALUES, max_size=3) | ANY_VALUES},
)


@hypothesis_settings(deadline=None, max_examples=400)
@given(MESSAGES)
def test_any_message_is_read_or_raises_invalid_message(message: object) -> None:
    try:
        outcome = outcome_from_wire(message)
    except InvalidMessage:
        return

    assert outcome.parcel == ID
    assert all(isinstance(file.path, bytes) and isinstance(file.verdict, Verdict) for file in outcome.files)


@pytest.mark.parametrize("kind", [None, "eaten", 1, [], {}, b"raised"], ids=repr)
@pytest.mark.parametrize(
    ("verdict", "implied"), [(Verdict.REJECTED, FailureKind.REJECTED), (Verdict.RETRY_ISOLATED, FailureKind.RAISED)]
)
def test_the_kind_of_a_failure_that_another_version_wrote_follows_from_its_verdict(
    kind: object, verdict: Verdict, implied: FailureKind
) -> None:
    (file,) = outcome_from_wire(with_file(verdict=verdict.value, reason="no", kind=kind)).files

    assert file.failure == Failure(implied, "no")


def test_an_outcome_of_a_version_without_kinds_is_read() -> None:
    files = [without(file, "kind") for file in wire()["files"]]

    assert [file.kind for file in outcome_from_wire(wire(files=files)).files] == [None] * len(files)
