"""Load CSV files of payments into PostgreSQL, each exactly once, however often the handler runs."""

import csv
import io
import os
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation

import psycopg

from inboxd import InboxFile, RejectFile

COLUMNS = ["day", "account", "amount"]
AMOUNT_LIMIT = 10**10
"""The column amount is a numeric(12, 2)."""


def load(file: InboxFile) -> dict[str, int]:
    """Copy all rows, and the file's id, in one transaction. Raises RejectFile for the first bad row.

    Where the database is, say PGHOST, PGDATABASE, PGUSER and the other variables of PostgreSQL's clients.
    """
    path = os.fsencode(file.relative_path).decode(errors="backslashreplace")
    with psycopg.connect(connect_timeout=10) as connection, connection.cursor() as cursor:
        # an earlier attempt that is still open makes this wait for its end
        cursor.execute("INSERT INTO loaded_file (id, path) VALUES (%s, %s) ON CONFLICT DO NOTHING", (file.id, path))
        if not cursor.rowcount:
            return {"rows": 0}  # an earlier attempt has stored them all
        rows = 0
        with cursor.copy("COPY payment (file_id, line, day, account, amount) FROM STDIN") as copy:
            for line, (day, account, amount) in _parse(file):
                copy.write_row((file.id, line, day, account, amount))
                rows += 1
    return {"rows": rows}


def _parse(file: InboxFile) -> Iterator[tuple[int, tuple[date, str, Decimal]]]:
    """Yield the line and the values of each row. Raises RejectFile."""
    reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
    try:
        if next(reader, []) != COLUMNS:
            raise RejectFile(f"Line 1: the columns must be {','.join(COLUMNS)}.")
        for row in reader:
            if row:
                yield reader.line_num, _convert(row)
    except UnicodeDecodeError as error:
        raise RejectFile(f"After line {reader.line_num}: the text is not UTF-8.") from error
    except (csv.Error, ValueError) as error:
        raise RejectFile(f"Line {reader.line_num}: {error}") from error


def _convert(row: list[str]) -> tuple[date, str, Decimal]:
    """Return a row's values. Raises ValueError."""
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} values instead of {len(COLUMNS)}")
    day, account, amount = row
    if not account.strip() or "\0" in account:
        raise ValueError("the account is missing, or no text")
    return date.fromisoformat(day), account, _amount(amount)


def _amount(text: str) -> Decimal:
    """Return an amount that fits its column unchanged. Raises ValueError."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no amount") from None
    if not amount.is_finite() or abs(amount) >= AMOUNT_LIMIT or amount != round(amount, 2):
        raise ValueError(f"{text!r} is no amount with at most ten digits and two decimals")
    return amount
