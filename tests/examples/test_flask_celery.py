"""examples/flask-celery: one function books an upload and a dropped file."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from support.live.example_project import ExampleProject, kill_with_children
from support.live.stand import Stand

pytestmark = pytest.mark.examples

MakeStand = Callable[..., Stand]
CSV = b"item,amount\nbolts,2.50\nnuts,1.25\n"
ANSWER_SECONDS = 4
UPLOAD = """
import sys
from web import app
with open(sys.argv[1], "rb") as stream:
    response = app.test_client().post("/upload", data={"file": (stream, sys.argv[2])})
print(response.status_code, response.get_data(as_text=True))
"""


def start(make_stand: MakeStand, **rules: object) -> ExampleProject:
    return ExampleProject(make_stand, "flask-celery", "books", {"BOOKS": "books.db"}, **rules)


def upload(project: ExampleProject, name: str, content: bytes) -> tuple[int, dict[str, Any]]:
    path = project.stand.folder / "uploaded"
    path.write_bytes(content)
    status, _, body = project.run("-c", UPLOAD, str(path), name).partition(" ")
    return int(status), json.loads(body)


def booked(project: ExampleProject) -> list[tuple[Any, ...]]:
    """Return the rows of the books without their keys."""
    with closing(sqlite3.connect(project.stand.folder / "books.db")) as books:
        return sorted(books.execute("select filename, content_type, sha256, total from books"))


def test_an_upload_and_a_dropped_file_give_the_same_result(make_stand: MakeStand) -> None:
    project = start(make_stand)
    project.worker()
    uploaded = upload(project, "march.csv", CSV)
    project.drop("march.csv", CSV)
    project.drop("2026/march.csv", CSV)
    project.wait()

    assert project.names("done") == {"march.csv", "2026/march.csv"}
    rows = booked(project)
    assert uploaded[0] == 200
    assert uploaded[1].items() >= {"filename": "march.csv", "content_type": "text/csv", "total": "3.75"}.items()
    assert len(rows) == 3
    assert len(set(rows)) == 1


def test_a_rejected_file_has_the_same_words_as_an_upload(make_stand: MakeStand) -> None:
    project = start(make_stand)
    project.worker()
    texts = {
        "no column.csv": b"item,price\nbolts,2\n",
        "words.csv": b"item,amount\nbolts,two\n",
        "picture.csv": b"\x89PNG\r\n\xff",
    }
    answers = {name: upload(project, name, content) for name, content in texts.items()}
    for name, content in texts.items():
        project.drop(name, content)
    project.wait()

    assert project.names("done") == set()
    for name, (status, answer) in answers.items():
        assert status == 400
        assert f"Reason: {answer['error']}\n" in project.note(name)
    assert booked(project) == []


def test_a_large_file_is_read_where_it_lies(make_stand: MakeStand) -> None:
    project = start(make_stand)
    project.worker()
    content = b"item,amount\n" + b"a bolt of the usual kind,1.50\n" * 700_000
    assert len(content) > 20_000_000
    uploaded = upload(project, "large.csv", content)
    project.drop("large.csv", content)
    project.wait()

    assert project.names("done") == {"large.csv"}
    assert uploaded[1]["total"] == "1050000.00"
    assert len(set(booked(project))) == 1


def test_a_killed_worker_loses_nothing_and_books_nothing_twice(make_stand: MakeStand) -> None:
    """It is killed after its transaction, before its answer."""
    project = start(make_stand, answer_seconds=ANSWER_SECONDS)
    worker = project.pausing_worker()
    names = {f"{number}.csv" for number in range(4)}
    for name in names:
        project.drop(name, CSV)
    project.stand.wait_until((project.folder / "worked").exists)
    kill_with_children(worker)
    assert len(booked(project)) == 1
    assert project.names("done") == set()
    project.worker()
    project.wait()

    assert project.names("done") == names
    assert sorted(row[0] for row in booked(project)) == sorted(names)


def test_a_message_that_comes_twice_is_booked_once(make_stand: MakeStand) -> None:
    project = start(make_stand)
    project.drop("march.csv", CSV)
    project.double_message()
    project.worker()
    project.wait()
    log = project.stand.programs["project"]
    project.stand.wait_until(lambda: log.text().count(" succeeded in ") == 2)
    time.sleep(1.0)

    assert project.names("done") == {"march.csv"}
    assert project.names("failed") == set()
    assert len(booked(project)) == 1
