"""examples/django: a task makes the invoice of a dropped file, with the form that checks an upload."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.live.example_project import ExampleProject, copies, kill_with_children
from support.live.stand import Stand

pytestmark = pytest.mark.examples

MakeStand = Callable[..., Stand]
PDF = b"%PDF-1.7\nan invoice\n%%EOF\n"
ANSWER_SECONDS = 4
UPLOAD = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "proj.settings"
import django
django.setup()
from django.conf import settings
settings.ALLOWED_HOSTS.append("testserver")
from django.core.files.uploadedfile import UploadedFile
from django.test import Client
with open(sys.argv[1], "rb") as stream:
    response = Client().post("/upload", {"file": UploadedFile(stream, sys.argv[2], "application/pdf")})
print(response.status_code, response.content.decode())
"""
INVOICES = """
import json
from invoices.models import Invoice
rows = Invoice.objects.order_by("pk")
print(json.dumps([[row.file.name, row.content_type, row.size, row.file.size, row.inboxd_id] for row in rows]))
"""


def start(make_stand: MakeStand, **rules: object) -> ExampleProject:
    project = ExampleProject(make_stand, "django", "proj", {"DATA_DIR": "data"}, **rules)
    project.run("manage.py", "migrate", "--verbosity", "0")
    assert "No changes detected" in project.run("manage.py", "makemigrations", "--check", "--dry-run")
    return project


def upload(project: ExampleProject, name: str, content: bytes) -> tuple[int, dict[str, Any]]:
    path = project.stand.folder / "uploaded"
    path.write_bytes(content)
    status, _, body = project.run("-c", UPLOAD, str(path), name).partition(" ")
    return int(status), json.loads(body)


def invoices(project: ExampleProject) -> list[tuple[Any, ...]]:
    printed = project.run("manage.py", "shell", "--verbosity", "0", "-c", INVOICES)
    return [tuple(row) for row in json.loads(printed)]


def stored(project: ExampleProject) -> list[bytes]:
    """Return the contents of all files that Django has stored."""
    return [path.read_bytes() for path in copies(project.stand.folder / "data" / "media")]


def test_an_upload_and_a_dropped_file_give_the_same_result(make_stand: MakeStand) -> None:
    project = start(make_stand)
    project.worker()
    status, _ = upload(project, "march.pdf", PDF)
    project.drop("march.pdf", PDF)
    project.drop("2026/march.pdf", PDF)
    project.wait()

    assert status == 200
    assert project.names("done") == {"march.pdf", "2026/march.pdf"}
    rows = invoices(project)
    assert [row[1:4] for row in rows] == [("application/pdf", len(PDF), len(PDF))] * 3
    assert rows[0][0] == "invoices/march.pdf"
    assert [row[4] is None for row in rows] == [True, False, False]
    assert stored(project) == [PDF] * 3


def test_a_rejected_file_has_the_words_of_the_form(make_stand: MakeStand) -> None:
    project = start(make_stand)
    project.worker()
    texts = {"letter.txt": PDF, "picture.pdf": b"\x89PNG\r\n", "empty.pdf": b""}
    answers = {name: upload(project, name, content) for name, content in texts.items()}
    for name, content in texts.items():
        project.drop(name, content)
    project.wait()

    assert project.names("done") == set()
    for name, (status, errors) in answers.items():
        assert status == 400
        assert f"Reason: {' '.join(errors['file'])}\n" in project.note(name)
    assert "Please export the invoice as PDF." in project.note("picture.pdf")
    assert invoices(project) == []
    assert stored(project) == []


def test_a_large_file_and_names_of_any_bytes_go_by_their_paths(make_stand: MakeStand) -> None:
    project = start(make_stand)
    project.worker()
    content = PDF + bytes(20_000_000)
    project.drop("large.pdf", content)
    project.drop("café.pdf", PDF)
    project.drop("raw \udcff.pdf", PDF)
    project.drop("back\\slash.pdf", PDF)
    project.wait()

    assert project.names("failed") == set()
    assert project.names("done") == {"large.pdf", "café.pdf", "raw \udcff.pdf", "back\\slash.pdf"}
    assert sorted(stored(project)) == [PDF, PDF, PDF, content]
    names = [row[0] for row in invoices(project)]
    assert {name.count("/") for name in names} == {1}


def test_a_killed_worker_loses_nothing_and_makes_no_invoice_twice(make_stand: MakeStand) -> None:
    """It is killed after its transaction, before its answer."""
    project = start(make_stand, answer_seconds=ANSWER_SECONDS)
    worker = project.pausing_worker()
    names = {f"{number}.pdf" for number in range(4)}
    for name in names:
        project.drop(name, PDF)
    project.stand.wait_until((project.folder / "worked").exists)
    kill_with_children(worker)
    assert len(invoices(project)) == 1
    assert project.names("done") == set()
    project.worker()
    project.wait()

    assert project.names("done") == names
    assert sorted(row[0] for row in invoices(project)) == sorted(f"invoices/{name}" for name in names)
    assert stored(project) == [PDF] * len(names)


@pytest.mark.parametrize("processes", [1, 2], ids=["one after the other", "at the same time"])
def test_a_message_that_comes_twice_makes_one_invoice(make_stand: MakeStand, processes: int) -> None:
    project = start(make_stand)
    project.drop("march.pdf", PDF)
    project.double_message()
    project.worker(processes=processes)
    project.wait()
    log = project.stand.programs["project"]
    project.stand.wait_until(lambda: log.text().count(" succeeded in ") == 2)
    time.sleep(1.0)

    assert project.names("done") == {"march.pdf"}
    assert project.names("failed") == set()
    assert len(invoices(project)) == 1
    assert stored(project) == [PDF]
