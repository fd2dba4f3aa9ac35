"""What `inboxd trace` is asked for, and how it is looked for."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.live.log_lines import NOON, line, parcel

from inboxd.console.logs.files.log_files import FileSource
from inboxd.console.trace.question import parse_queries, run_queries
from inboxd.console.trace.timeline import FileLife

P, Q, R = (parcel(number, NOON) for number in (1, 2, 3))
SHA, ID = "5" * 64, "a" * 32


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A company of three: a.pdf is done, b.pdf split off and failed, c.pdf done under another name; later another a.pdf."""
    sha_of = {"a.pdf": SHA, "b.pdf": "6" * 64, "c.pdf": "7" * 64}
    lines = [line("file_claimed", NOON, file=f, parcel=P, sha256=s, file_id=s[:32]) for f, s in sha_of.items()]
    lines += [
        line("file_claimed", NOON, file="d.pdf", parcel=R, file_id=ID, sha256=None),
        line("parcel_crashed", NOON + 1, parcel=P, crashes=1),
        line("file_done", NOON + 2, file="a.pdf", parcel=P, filed="a.pdf"),
        line("file_done", NOON + 2, file="c.pdf", parcel=P, filed="c (2).pdf"),
        line("parcel_split", NOON + 3, file="b.pdf", parcel=Q, out_of=P, why="bad"),
        line("parcel_sent", NOON + 4, parcel=Q, files=1),
        line("file_failed", NOON + 5, file="b.pdf", parcel=Q, filed="sub/b.pdf", reason="bad"),
        line("file_claimed", NOON + 9, file="a.pdf", parcel=parcel(9, NOON), sha256="8" * 64),
        line("file_claimed", NOON + 9, inbox="other", file="a.pdf", parcel=parcel(8, NOON), sha256="8" * 64),
    ]
    path = tmp_path / "all.log"
    path.write_bytes(b"".join(lines))
    return path


def ask(log: Path, asked: str, *, here: Path | None = None) -> list[FileLife]:
    roots = {"drop": log.parent / "drop", "other": log.parent / "other"}
    return run_queries(FileSource([log], pytest.fail), parse_queries(asked, roots, here or log.parent))


def told(lives: Iterable[FileLife]) -> list[tuple[str | None, str | None, list[str]]]:
    return [(life.inbox, life.file, [step.event for step in life.steps]) for life in lives]


A = ("drop", "a.pdf", ["file_claimed", "parcel_crashed", "file_done"])
A_AGAIN = ("drop", "a.pdf", ["file_claimed"])
B = ("drop", "b.pdf", ["file_claimed", "parcel_crashed", "parcel_split", "parcel_sent", "file_failed"])
C = ("drop", "c.pdf", ["file_claimed", "parcel_crashed", "file_done"])
D = ("drop", "d.pdf", ["file_claimed"])
OTHER = ("other", "a.pdf", ["file_claimed"])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("a.pdf", [A, A_AGAIN, OTHER]),
        ("./a.pdf", [A, A_AGAIN, OTHER]),
        ("b.pdf", [B]),
        ("c (2).pdf", [C]),
        (P, [A, B, C]),
        (Q, [B]),
        (SHA, [A]),
        (SHA.upper(), [A]),
        ("7" * 64, [C]),
        (ID, [D]),
        ("nothing", []),
        ("0" * 28, []),
        ("file_done", []),
    ],
)
def test_a_file_is_found_by_each_of_its_names(log: Path, asked: str, found: object) -> None:
    assert sorted(told(ask(log, asked))) == sorted(found)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("drop/inbox/a.pdf", [A, A_AGAIN]),
        ("other/inbox/a.pdf", [OTHER]),
        ("drop/done/c (2).pdf", [C]),
        ("drop/failed/sub/b.pdf", [B]),
        (f"drop/claimed/{R}/d.pdf", [D]),
        (f"drop/claimed/{R}", [D]),
        ("drop/done/b.pdf", []),
        ("drop", []),
        ("drop/inbox", []),
        ("elsewhere/inbox/a.pdf", []),
    ],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_path_into_an_inbox_s_folders_is_understood(log: Path, path: str, found: object, absolute: bool) -> None:
    asked = str(log.parent / path) if absolute else path

    assert sorted(told(ask(log, asked))) == sorted(found)  # type: ignore[call-overload]


def test_a_name_in_the_current_folder_is_understood(log: Path) -> None:
    here = log.parent / "drop" / "failed" / "sub"
    here.mkdir(parents=True)

    assert told(ask(log, "b.pdf", here=here)) == [B]


def test_a_root_behind_a_link_is_recognised(log: Path) -> None:
    (log.parent / "drop" / "done").mkdir(parents=True)
    (log.parent / "link").symlink_to(log.parent / "drop")

    assert told(ask(log, str(log.parent / "link" / "done" / "c (2).pdf"))) == [C]


@pytest.mark.parametrize("asked", ["a\\n\\x1b[2J\\xff", os.fsdecode(b"a\n\x1b[2J\xff")], ids=["as logged", "raw"])
def test_a_hostile_name_is_found_as_the_log_spells_it_and_as_it_is(tmp_path: Path, asked: str) -> None:
    path = tmp_path / "all.log"
    path.write_bytes(line("file_claimed", NOON, file="a\\n\\x1b[2J\\xff", parcel=P))

    assert [life.file for life in ask(path, asked)] == ["a\\n\\x1b[2J\\xff"]


def test_a_file_that_is_named_like_a_parcel_is_found_when_no_parcel_is(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    path.write_bytes(line("file_claimed", NOON, file=Q, parcel=P))

    assert [life.file for life in ask(path, Q)] == [Q]


def test_of_many_lives_each_has_what_is_told_of_its_parcel(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    lives = [
        line(event, NOON + n + after, parcel=parcel(n, NOON), **file)
        for n in range(50)
        for event, after, file in (("file_claimed", 0.0, {"file": "daily"}), ("parcel_sent", 0.5, {}))
    ]
    path.write_bytes(b"".join(lives))

    assert told(ask(path, "daily")) == [("drop", "daily", ["file_claimed", "parcel_sent"])] * 50
