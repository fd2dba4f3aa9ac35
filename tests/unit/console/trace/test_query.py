"""Parsing the argument of `inboxd trace`, and finding the lives that it names."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.live.log_lines import NOON, line, parcel

from inboxd.console.log_reading.files.log_files import FileSource
from inboxd.console.trace.query import parse_queries, run_queries
from inboxd.console.trace.timeline import FileLife

P, Q, R = (parcel(number, NOON) for number in (1, 2, 3))
SHA, ID = "5" * 64, "a" * 32


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A parcel of three files: a.pdf is done, b.pdf split off and failed, c.pdf done under another name; a.pdf comes again."""
    sha_of = {"a.pdf": SHA, "b.pdf": "6" * 64, "c.pdf": "7" * 64}
    lines = [line("file_claimed", NOON, file=f, parcel=P, sha256=s, file_id=s[:32]) for f, s in sha_of.items()]
    lines += [
        line("file_claimed", NOON, file="d.pdf", parcel=R, file_id=ID, sha256=None),
        line("parcel_crashed", NOON + 1, parcel=P, crashes=1),
        line("file_done", NOON + 2, file="a.pdf", parcel=P, filed="a.pdf"),
        line("file_done", NOON + 2, file="c.pdf", parcel=P, filed="c (2).pdf"),
        line("parcel_split", NOON + 3, file="b.pdf", parcel=Q, out_of=P, why="bad"),
        line("parcel_republished", NOON + 4, parcel=Q, files=1),
        line("file_failed", NOON + 5, file="b.pdf", parcel=Q, filed="sub/b.pdf", reason="bad"),
        line("file_claimed", NOON + 9, file="a.pdf", parcel=parcel(9, NOON), sha256="8" * 64),
        line("file_claimed", NOON + 9, inbox="other", file="a.pdf", parcel=parcel(8, NOON), sha256="8" * 64),
    ]
    path = tmp_path / "all.log"
    path.write_bytes(b"".join(lines))
    return path


def find_lives(log: Path, argument: str, *, working_folder: Path | None = None) -> list[FileLife]:
    roots = {"drop": log.parent / "drop", "other": log.parent / "other"}
    return run_queries(FileSource([log], pytest.fail), parse_queries(argument, roots, working_folder or log.parent))


def summarize(lives: Iterable[FileLife]) -> list[tuple[str | None, str | None, list[str]]]:
    return [(life.inbox, life.file, [step.event for step in life.steps]) for life in lives]


A = ("drop", "a.pdf", ["file_claimed", "parcel_crashed", "file_done"])
A_AGAIN = ("drop", "a.pdf", ["file_claimed"])
B = ("drop", "b.pdf", ["file_claimed", "parcel_crashed", "parcel_split", "parcel_republished", "file_failed"])
C = ("drop", "c.pdf", ["file_claimed", "parcel_crashed", "file_done"])
D = ("drop", "d.pdf", ["file_claimed"])
OTHER = ("other", "a.pdf", ["file_claimed"])


@pytest.mark.parametrize(
    ("argument", "found"),
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
def test_a_file_is_found_by_each_of_its_names(log: Path, argument: str, found: object) -> None:
    assert sorted(summarize(find_lives(log, argument))) == sorted(found)  # type: ignore[call-overload]


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
@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_file_is_found_by_a_path_into_an_inbox_s_folders(log: Path, path: str, found: object, is_absolute: bool) -> None:
    argument = str(log.parent / path) if is_absolute else path

    assert sorted(summarize(find_lives(log, argument))) == sorted(found)  # type: ignore[call-overload]


def test_a_file_is_found_by_its_name_in_the_working_folder(log: Path) -> None:
    folder = log.parent / "drop" / "failed" / "sub"
    folder.mkdir(parents=True)

    assert summarize(find_lives(log, "b.pdf", working_folder=folder)) == [B]


def test_a_file_is_found_by_a_path_through_a_link_to_the_root(log: Path) -> None:
    (log.parent / "drop" / "done").mkdir(parents=True)
    (log.parent / "link").symlink_to(log.parent / "drop")

    assert summarize(find_lives(log, str(log.parent / "link" / "done" / "c (2).pdf"))) == [C]


@pytest.mark.parametrize("argument", ["a\\n\\x1b[2J\\xff", os.fsdecode(b"a\n\x1b[2J\xff")], ids=["as logged", "raw"])
def test_a_name_with_control_characters_is_found_escaped_and_raw(tmp_path: Path, argument: str) -> None:
    path = tmp_path / "all.log"
    path.write_bytes(line("file_claimed", NOON, file="a\\n\\x1b[2J\\xff", parcel=P))

    assert [life.file for life in find_lives(path, argument)] == ["a\\n\\x1b[2J\\xff"]


def test_a_file_named_like_a_parcel_is_found_if_no_parcel_has_that_id(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    path.write_bytes(line("file_claimed", NOON, file=Q, parcel=P))

    assert [life.file for life in find_lives(path, Q)] == [Q]


def test_each_of_many_lives_has_the_records_of_its_own_parcel(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    lives = [
        line(event, NOON + n + after, parcel=parcel(n, NOON), **file)
        for n in range(50)
        for event, after, file in (("file_claimed", 0.0, {"file": "daily"}), ("parcel_republished", 0.5, {}))
    ]
    path.write_bytes(b"".join(lives))

    assert summarize(find_lives(path, "daily")) == [("drop", "daily", ["file_claimed", "parcel_republished"])] * 50
