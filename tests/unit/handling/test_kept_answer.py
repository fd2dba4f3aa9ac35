"""Answers of a webhook that become outputs of the file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.webhook_server import Answer, WebhookServer

from inboxd import InboxFile
from inboxd.config.handler_kinds import HandlerKeys
from inboxd.errors import HandlerFailed
from inboxd.handling.kept_answer import PARTS_BYTES_MAX
from inboxd.handling.webhook import WebhookHandler

PDF = {"Content-Type": "application/pdf"}


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer().running() as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scan.tif"
    path.write_bytes(b"tiff")
    return path


def outputs(server: WebhookServer, path: Path, answer: Answer) -> dict[str, bytes]:
    """Return what is kept of an answer."""
    server.answers(answer)
    with InboxFile.of(path) as file:
        WebhookHandler(HandlerKeys.model_validate({"url": server.url, "keep_answer": True}))(file)
        file.close_outputs(is_done=True)
        return {entry.name: entry.read_bytes() for entry in file.outputs_folder.iterdir()}


def test_the_body_is_an_output_with_the_files_name_and_the_answers_type(server: WebhookServer, path: Path) -> None:
    body = bytes(range(256)) * 4096

    assert outputs(server, path, Answer(200, body, PDF)) == {"scan.pdf": body}


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="Rechnung 7.pdf"', "Rechnung 7.pdf"),
        ("attachment; filename*=UTF-8''caf%C3%A9.pdf", "café.pdf"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\x\\\\y.pdf"', "y.pdf"),
        ('attachment; filename=".."', "scan.pdf"),
        ('attachment; filename=""', "scan.pdf"),
        (f'attachment; filename="{"x" * 300}"', "scan.pdf"),
        ("attachment; filename*=none''x", None),
        ("attachment; filename*=utf-7''%2B2AA-", None),
        ("=?x?", "scan.pdf"),
    ],
)
def test_the_name_is_the_one_that_the_answer_gives_it(
    server: WebhookServer, path: Path, disposition: str, name: str | None
) -> None:
    kept = outputs(server, path, Answer(200, b"x", {**PDF, "Content-Disposition": disposition}))

    assert [*kept.values()] == [b"x"]
    assert name is None or [*kept] == [name]


def test_an_answer_without_a_body_is_no_output(server: WebhookServer, path: Path) -> None:
    assert outputs(server, path, Answer(204)) == {}
    assert outputs(server, path, Answer(200, b"", PDF)) == {}


def test_each_part_of_a_multipart_answer_is_an_output(server: WebhookServer, path: Path) -> None:
    parts = (
        b'--B\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name="t"; filename="a.txt"\r\n\r\nfirst\r\n'
        b'--B\r\nContent-Disposition: form-data; name="t"; filename="a.txt"\r\n\r\n\x00\xff\r\nsecond\r\n'
        b"--B\r\nContent-Type: image/png\r\n\r\npng\r\n--B--\r\n"
    )

    kept = outputs(server, path, Answer(200, parts, {"Content-Type": "multipart/mixed; boundary=B"}))

    assert kept == {"a.txt": b"first", "2-a.txt": b"\x00\xff\r\nsecond", "scan-3.png": b"png"}


def test_a_part_with_parts_is_refused_and_not_lost(server: WebhookServer, path: Path) -> None:
    mail = b"--B\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ntext\r\n--B--\r\n"

    with pytest.raises(HandlerFailed, match="part 1 of the answer has parts itself"):
        outputs(server, path, Answer(200, mail, {"Content-Type": "multipart/mixed; boundary=B"}))


def test_parts_get_names_of_their_own(server: WebhookServer, path: Path) -> None:
    parts = b"".join(
        b'--B\r\nContent-Disposition: form-data; filename="%s"\r\n\r\n%d\r\n' % (name, number)
        for number, name in enumerate((b"3-a", b"a", b"a"), start=1)
    )

    kept = outputs(server, path, Answer(200, parts + b"--B--\r\n", {"Content-Type": "multipart/mixed; boundary=B"}))

    assert sorted(kept.values()) == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    "body", [b"", b"no parts", b"--B\r\n\r\nx", b"x" * (PARTS_BYTES_MAX + 1)], ids=["empty", "none", "no end", "too large"]
)
def test_parts_that_cant_be_read_are_tried_again(server: WebhookServer, path: Path, body: bytes) -> None:
    with pytest.raises(HandlerFailed, match="parts"):
        outputs(server, path, Answer(200, body, {"Content-Type": "multipart/mixed; boundary=B"}))


def test_an_answer_that_ends_too_early_is_tried_again(server: WebhookServer, path: Path) -> None:
    with pytest.raises(HandlerFailed):
        outputs(server, path, Answer(200, b"half", {**PDF, "Content-Length": "8"}))
