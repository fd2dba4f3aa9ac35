"""The recipes of docs/recipes.md: each handler is run on a file, and each settings file is loaded."""

import http.server
import re
import sqlite3
import threading
import tomllib
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.repository import REPOSITORY

from inboxd import InboxFile, RejectFile
from inboxd.config.settings import Settings

TEXT = (REPOSITORY / "docs/recipes.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    """Run all code in one module's namespace, as a reader does who copies every recipe into one file."""
    namespace: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "recipes.py", "exec"), namespace)
    return namespace


@pytest.fixture
def file(tmp_path: Path) -> InboxFile:
    path = tmp_path / "a b.pdf"
    path.write_bytes(b"%PDF-1.7\n...")
    return InboxFile.of(path)


class Sink(http.server.BaseHTTPRequestHandler):
    received: ClassVar[list[tuple[str | None, bytes]]] = []

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.headers["Idempotency-Key"], content))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


@pytest.mark.parametrize("text", blocks("toml"))
def test_each_settings_file_is_valid(text: str) -> None:
    inboxes = tomllib.loads(text)

    assert Settings(**inboxes).inbox


def test_a_file_is_stored_once_however_often_the_handler_runs(recipes: dict[str, Any], file: InboxFile, tmp_path: Path) -> None:
    recipes["DATABASE"] = str(tmp_path / "invoices.db")

    recipes["store"](file)
    recipes["store"](file.open())

    with sqlite3.connect(tmp_path / "invoices.db") as database:
        assert database.execute("SELECT id, name, content FROM invoice").fetchall() == [(file.id, "a b.pdf", b"%PDF-1.7\n...")]


def test_the_first_folder_is_the_customer(recipes: dict[str, Any], file: InboxFile) -> None:
    by_customer = recipes["by_customer"]

    assert by_customer(InboxFile.of(file.path or "", relative_path="lee/2026/a.pdf")) == "lee"
    with pytest.raises(RejectFile, match="your own folder"):
        by_customer(file)


def test_the_content_decides_what_a_file_is(recipes: dict[str, Any], file: InboxFile, tmp_path: Path) -> None:
    (tmp_path / "program.pdf").write_bytes(b"#!/bin/sh\necho\n")

    recipes["only_pdf"](file)
    with pytest.raises(RejectFile, match="not a PDF file, but text/x-shellscript"):
        recipes["only_pdf"](InboxFile.of(tmp_path / "program.pdf"))


def test_a_large_file_is_read_in_chunks(recipes: dict[str, Any], file: InboxFile) -> None:
    assert recipes["crc"](file) == 0x715F3C28


def test_a_file_is_sent_with_its_id(recipes: dict[str, Any], file: InboxFile) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Sink) as server:
        threading.Thread(target=server.serve_forever).start()
        recipes["URL"] = f"http://127.0.0.1:{server.server_port}/invoices"

        recipes["send"](file)

        server.shutdown()
    assert Sink.received == [(file.id, b"%PDF-1.7\n...")]
