"""Changes on a real Valkey; tests of what both can do also run on FakeChanges."""

import time

import pytest
import redis
from support.parts.fakes import FakeChanges

from inboxd.broker import changes as changes_module
from inboxd.broker.changes import FILED_KEY, LOOK_SECONDS, Changes, FiledFile

AnyChanges = Changes | FakeChanges

OLD = FiledFile(b"a\xff", b"a\xff (2)", 5, 1 << 60, 1 << 63, 0, filed_at=0.0)


@pytest.fixture(params=["redis", "fake"])
def changes(request: pytest.FixtureRequest) -> AnyChanges:
    return FakeChanges() if request.param == "fake" else Changes(request.getfixturevalue("valkey"))


def test_the_changes_of_each_path_of_each_inbox_are_counted(changes: AnyChanges) -> None:
    counts = [changes.count(inbox, path) for inbox, path in (("a", b"x"), ("a", b"x"), ("a", b"y"), ("b", b"x"))]

    assert counts == [1, 2, 1, 1]


def test_a_filed_file_is_due_for_each_look_and_then_forgotten(changes: AnyChanges) -> None:
    changes.watch("drop", [OLD])
    for looks in range(len(LOOK_SECONDS)):
        assert changes.due("drop") == [OLD._replace(looks=looks)]
        changes.watch("drop", [OLD._replace(looks=looks + 1)], done_with=changes.due("drop"))

    assert changes.due("drop") == []


def test_a_file_that_is_done_with_is_forgotten(changes: AnyChanges) -> None:
    changes.watch("drop", [OLD, OLD._replace(path=b"b")])

    changes.watch("drop", [], done_with=[OLD])

    assert changes.due("drop") == [OLD._replace(path=b"b")]


def test_a_filed_file_is_due_once_it_is_old_enough_in_its_own_inbox(valkey: redis.Redis) -> None:
    changes, now = Changes(valkey), time.time()
    due, early = OLD._replace(filed_at=now - LOOK_SECONDS[0] - 1), OLD._replace(filed_at=now)

    changes.watch("drop", [early, due])

    assert changes.due("drop") == [due]
    assert changes.due("other") == []
    assert valkey.ttl(FILED_KEY + "drop") > LOOK_SECONDS[-1]


def test_no_more_than_the_maximum_is_kept_or_returned(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "FILED_MAX", 3)
    monkeypatch.setattr(changes_module, "LOOKS_MAX", 2)
    changes = Changes(valkey)

    changes.watch("drop", [OLD._replace(filed_at=float(number)) for number in range(5)])

    assert [file.filed_at for file in changes.due("drop")] == [2.0, 3.0]
    assert valkey.zcard(FILED_KEY + "drop") == 3


def test_a_file_is_superseded_by_a_later_one_of_the_same_name(changes: AnyChanges) -> None:
    later = OLD._replace(filed_at=5.0, size=7)
    changes.watch("drop", [OLD, later, OLD._replace(filed=b"b", filed_at=9.0)])

    newest = changes.newest("drop")

    assert newest[OLD.filed, OLD.ino] == 5.0
    assert newest[b"b", OLD.ino] == 9.0
    assert (OLD.filed, 1) not in newest


def test_counted_changes_can_be_read(changes: AnyChanges) -> None:
    changes.count("a", b"x")

    assert (changes.counted("a", b"x"), changes.counted("a", b"y")) == (1, 0)
