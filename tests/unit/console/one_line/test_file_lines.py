"""One line of a terminal for each record: its columns, and its width, with hostile names, on a real terminal's screen."""

import pytest
from support.live.log_lines import NOON, parcel, table
from support.terminal import Terminal

from inboxd.console.log_reading.records import Record, from_fields
from inboxd.console.one_line.file_lines import FileLines, is_shown
from inboxd.console.one_line.fit import count_cells, cut_end, cut_middle, format_size
from inboxd.logs.text import escape

P = parcel(1, NOON)
NAMES = {
    "plain": b"2026/a.pdf",
    "long": b"customer/" * 30 + b"invoice.pdf",
    "escape": b"\x1b[2J\x1b[31mred\x07.pdf",
    "newline": b"a\nb\r\nc.pdf",
    "override": "\u202egnp.exe".encode(),
    "hebrew": "חשבונית.pdf".encode(),
    "wide": ("請求書" * 40 + ".pdf").encode(),
    "emoji": "🧾👩‍👩‍👧‍👦🇩🇪.pdf".encode(),
    "combining": ("e\u0301\u0323" * 50).encode(),
    "bytes": b"\xff\xfe\x80.pdf",
}


def record(event: str, **keys: object) -> Record:
    made = from_fields(table(event, NOON, **keys))
    assert made is not None
    return made


def done(name: bytes, **keys: object) -> Record:
    fields = {"size": 1_234_567, "content_type": "application/pdf", "took_ms": 412.3, **keys}
    return record("file_done", file=escape(name), parcel=P, attempt=1, filed="x", **fields)


def failed(name: bytes, reason: str = "only PDF files can be booked " * 9) -> Record:
    return record("file_failed", file=escape(name), parcel=P, attempt=1, filed="x", reason=reason, size=1, took_ms=1.0)


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_line_never_wraps_and_moves_no_cursor_whatever_the_file_is_called(name: bytes, columns: int) -> None:
    lines = FileLines(["drop"])
    records = [
        done(name),
        failed(name),
        record("file_retried", file=escape(name), retry=1, of=3, in_seconds=2.0, why="x" * 300),
    ]
    screen = Terminal(columns)

    texts = [lines.render(each, columns - 1).plain for each in records]
    screen.feed("".join(f"{text}\n" for text in texts))

    assert all(count_cells(text) <= columns - 1 and text.isprintable() for text in texts)
    assert len(screen.rows) == 3
    assert screen.rows[0].endswith("done")


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (60, "drop 2026/a.pdf                  1.2 MB     412 ms done"),
        (80, "drop 2026/a.pdf                  1.2 MB application/pdf     412 ms done"),
        (120, "drop 2026/a.pdf                                               1.2 MB application/pdf              412 ms done"),
    ],
)
def test_a_done_file_s_columns(columns: int, text: str) -> None:
    line = FileLines(["drop"]).render(done(NAMES["plain"]), columns).plain

    assert " ".join(line[9:].split()) == " ".join(text.split())
    assert len(line) == columns


def test_unknown_size_type_and_duration_leave_their_columns_empty() -> None:
    line = FileLines(["drop"]).render(done(b"a.pdf", size=None, content_type=None, took_ms=None), 100).plain

    assert line[9:].split() == ["drop", "a.pdf", "done"]


def test_a_failed_file_is_red_and_has_the_reason() -> None:
    line = FileLines(["drop"]).render(failed(b"a.doc", "only PDF files can be booked"), 80)

    assert line.plain[9:] == "drop a.doc failed: only PDF files can be booked"
    assert line.style == "red"


def test_the_column_of_inboxes_grows_with_the_names_that_are_seen() -> None:
    lines = FileLines()

    first = lines.render(record("file_done", inbox="a", file="x"), 60).plain
    lines.render(record("file_done", inbox="b" * 40, file="x"), 60)
    second = lines.render(record("file_done", inbox="a", file="x"), 60).plain

    assert (first[9:12], second[9:25]) == ("a x", "a              x")


def test_what_a_handler_prints_is_not_cut() -> None:
    text = "printed " * 50
    printed = from_fields({**table("file_done", NOON, file="a"), "event": "handler_output", "line": text})
    assert printed is not None

    assert FileLines(["drop"]).render(printed, 60).plain.endswith(f"a | {text}")


@pytest.mark.parametrize(
    ("event", "keys", "expected"),
    [
        ("file_done", {}, True),
        ("file_refused", {}, True),
        ("file_claimed", {}, False),
        ("file_handled", {"level": "warning", "raised": "x"}, False),
        ("parcel_split", {"why": None}, False),
        ("parcel_split", {"why": "it raised"}, True),
        ("sweep_done", {}, False),
        ("parcel_crashed", {}, True),
        ("file_done", {"module": "a_handler_s_library"}, False),
        ("file_done", {"module": "a_handler_s_library", "level": "error"}, True),
    ],
)
def test_ends_retries_and_warnings_have_lines(event: str, keys: dict[str, object], expected: bool) -> None:
    made = from_fields({**table(event, NOON, file="a"), **keys})
    assert made is not None

    assert is_shown(made) is expected


def test_a_warning_is_one_line_with_its_program() -> None:
    line = FileLines(["drop"], with_date=True).render(record("parcel_crashed", crashes=2, worker="w" * 200), 80)

    assert line.plain[2] == "-"
    assert "worker   ! parcel_crashed drop  crashes=2" in line.plain
    assert (count_cells(line.plain), line.style) == (80, "yellow")


@pytest.mark.parametrize("width", range(12))
@pytest.mark.parametrize("text", ["abcdefghij.pdf", "請求書請求書請求書", "e\u0301" * 20, "❤\ufe0f" * 9])
def test_cut_text_has_at_most_the_cells_that_it_may_have(text: str, width: int) -> None:
    assert count_cells(cut_end(text, width)) <= width
    assert count_cells(cut_middle(text, width)) <= width


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    assert cut_middle("2026/customer/invoice 0001.pdf", 16) == "2026/…e 0001.pdf"
    assert cut_end("only PDF files", 9) == "only PDF…"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9950, "10 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"),
     (1 << 70, "1180592 PB"), (None, ""), (-1, ""), (True, ""), ("7", "")],
)  # fmt: skip
def test_a_size_is_written_for_people(size: object, text: str) -> None:
    assert format_size(size) == text
