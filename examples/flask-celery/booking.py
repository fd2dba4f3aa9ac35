"""What is done with an upload, wherever it comes from: its lines are added up, and written into the books once."""

import csv
import hashlib
import io
import os
import sqlite3
from contextlib import closing
from decimal import Decimal, InvalidOperation
from pathlib import Path

from werkzeug.datastructures import FileStorage
from werkzeug.utils import secure_filename

BOOKS = Path(os.environ.get("BOOKS", "books.db"))
COLUMNS = ("id", "filename", "content_type", "sha256", "total")


class RejectFile(Exception):
    """The file is at fault. inboxd knows this error by the name of its class, and passes on the text."""


def book(upload: FileStorage, key: str) -> dict:
    """Add up a CSV file's column "amount", and book the total; with a key that is booked already, nothing is added."""
    if (booked := find(key)) is not None:
        return booked
    try:
        total = add_up(upload)
    except (UnicodeDecodeError, InvalidOperation, csv.Error):
        raise RejectFile("This is not a CSV file with numbers in its column amount.") from None
    upload.stream.seek(0)
    digest = hashlib.file_digest(upload.stream, "sha256").hexdigest()
    row = (key, secure_filename(upload.filename), upload.mimetype, digest, str(total))
    with closing(connect()) as books, books:
        books.execute("insert or ignore into books values (?, ?, ?, ?, ?)", row)
    return find(key)


def add_up(upload: FileStorage) -> Decimal:
    """Return the sum of the column "amount", without reading the whole file into memory."""
    text = io.TextIOWrapper(upload.stream, "utf-8", newline="")
    try:
        rows = csv.DictReader(text)
        if "amount" not in (rows.fieldnames or ()):
            raise RejectFile("The file has no column amount. Add it, and send the file again.")
        return sum((Decimal(row["amount"] or 0) for row in rows), Decimal(0))
    finally:
        text.detach()  # else the upload would be closed with it


def find(key: str) -> dict | None:
    """Return what is booked under a key."""
    with closing(connect()) as books:
        row = books.execute("select * from books where id = ?", (key,)).fetchone()
    return row and dict(zip(COLUMNS, row, strict=True))


def connect() -> sqlite3.Connection:
    """Return a connection to the books."""
    books = sqlite3.connect(BOOKS, timeout=30)
    books.execute("create table if not exists books (id primary key, filename, content_type, sha256, total)")
    return books
