"""A URL as a handler, with a real server: what is sent, what an answer means, and whom a connection may lead to."""

import base64
import email.parser
import email.policy
import email.utils
import hashlib
import hmac
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from support.free_port import free_port
from support.webhook_server import Answer, WebhookServer
from werkzeug.formparser import parse_form_data

from inboxd.config.handler_kinds import HandlerKeys
from inboxd.handling import run_handler
from inboxd.handling.run_handler import HandlerCall
from inboxd.handling.webhook import parse_retry_after
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.outcome import Verdict

LIMIT = 7
CONTENT = b"a,b\n1,2\n"
JSON, PROBLEM = {"Content-Type": "application/json"}, {"Content-Type": "application/problem+json; charset=utf-8"}


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer().running() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "märz report.csv"
    path.write_bytes(CONTENT)
    return path


def send(path: Path, url: str, *, attempt: int = 1, **keys: object) -> HandlerCall:
    handler = run_handler.load_handler(HandlerKeys.model_validate({"url": url, **keys}))
    file = InboxFile.of(path, relative_path=f"2026/{path.name}", inbox="books", attempt=attempt)
    return run_handler.run_handler(handler, file, LIMIT, time.monotonic())


# what is sent


def test_the_file_is_sent_with_what_identifies_it(server: WebhookServer, path: Path) -> None:
    call = send(path, server.url + "?team=a", attempt=2)

    (request,) = server.requests
    file = InboxFile.of(path, relative_path=f"2026/{path.name}", inbox="books")
    assert (call.verdict, call.result) == (Verdict.DONE, {"status": 204})
    assert (request.path, request.body) == ("/incoming?team=a", CONTENT)
    assert request.headers.items() >= {
        "content-type": "text/csv", "content-length": "8", "idempotency-key": file.id, "inboxd-file-id": file.id,
        "inboxd-file-name": "m%C3%A4rz%20report.csv", "inboxd-file-path": "2026/m%C3%A4rz%20report.csv",
        "inboxd-file-sha256": hashlib.sha256(CONTENT).hexdigest(), "inboxd-inbox": "books", "inboxd-attempt": "2",
    }.items()  # fmt: skip
    assert not {"authorization", "webhook-signature"} & request.headers.keys()


@pytest.mark.parametrize("name", [b"\r\nX-Evil: 1", b"caf\xe9", b'"; filename="b', "\u202egpj.exe".encode(), b"%0d%0a"])
@pytest.mark.parametrize("body", ["raw", "multipart"])
def test_a_hostile_name_stays_a_name(server: WebhookServer, name: bytes, body: str, tmp_path: Path) -> None:
    file = Path(os.fsdecode(bytes(tmp_path) + b"/" + name))
    file.write_bytes(CONTENT)

    assert send(file, server.url, body=body).verdict is Verdict.DONE

    (request,) = server.requests
    assert "x-evil" not in request.headers
    assert CONTENT in request.body


def test_a_multipart_body_is_the_form_that_a_browser_sends(server: WebhookServer, path: Path) -> None:
    send(path, server.url, body="multipart")

    (request,) = server.requests
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
    (part,) = form.iter_parts()
    assert part["Content-Disposition"].params["name"] == "file"
    assert "märz report.csv" in request.body.decode()
    assert (part.get_content_type(), part.get_payload(decode=True)) == ("text/csv", CONTENT)


def test_werkzeug_reads_the_form(server: WebhookServer, path: Path) -> None:
    send(path, server.url, body="multipart")

    (request,) = server.requests
    environ = {
        "wsgi.input": BytesIO(request.body), "CONTENT_LENGTH": str(len(request.body)),
        "CONTENT_TYPE": request.headers["content-type"], "REQUEST_METHOD": "POST",
    }  # fmt: skip
    _, _, files = parse_form_data(environ)
    with closing(files["file"]) as received:
        assert (received.filename, received.read()) == ("märz report.csv", CONTENT)


def test_an_empty_file_is_sent(server: WebhookServer, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")

    assert send(tmp_path / "empty", server.url).verdict is Verdict.DONE
    assert send(tmp_path / "empty", server.url, body="multipart").verdict is Verdict.DONE

    assert server.requests[0].body == b""


def test_connections_are_kept(server: WebhookServer, path: Path) -> None:
    for _ in range(5):
        assert send(path, server.url).verdict is Verdict.DONE

    assert len({request.port for request in server.requests}) == 1


@pytest.mark.parametrize("body", ["raw", "multipart"])
def test_a_signature_is_verified_by_the_ten_lines_of_the_docs(
    server: WebhookServer, body: str, path: Path, tmp_path: Path
) -> None:
    key = os.urandom(32)
    (tmp_path / "secret").write_text(f"whsec_{base64.b64encode(key).decode()}\n")

    assert send(path, server.url, secret_file=str(tmp_path / "secret"), body=body).verdict is Verdict.DONE

    (request,) = server.requests
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60


@pytest.mark.parametrize("text", ["", "secret", "whsec_", "whsec_!!!", "whsec_c2hvcnQ=", "whsec_" + "A" * 40 + "\nsecond"])
def test_without_a_usable_secret_nothing_is_sent(server: WebhookServer, text: str, path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(text)

    call = send(path, server.url, secret_file=str(tmp_path / "secret"))

    assert call.verdict is Verdict.RETRY_ISOLATED
    assert call.reason is not None
    assert call.reason.startswith(f"{tmp_path}/secret has ")
    assert "second" not in call.reason
    assert server.requests == []


def test_the_authorization_comes_from_a_file_or_a_credential(
    server: WebhookServer, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("Bearer from-file\n")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/books.authorization").write_text("Bearer from-credential\n")

    send(path, server.url, authorization_file=str(tmp_path / "token"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    send(path, server.url, authorization_file=str(tmp_path / "token"))

    assert [request.headers["authorization"] for request in server.requests] == ["Bearer from-file", "Bearer from-credential"]


# answers


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        (Answer(200, b"booked as 17\nmore"), Verdict.DONE, {"status": 200, "answer": "booked as 17"}),
        (Answer(202), Verdict.DONE, {"status": 202}),
        (Answer(409, b"booked already"), Verdict.REJECTED, "booked already"),
        (Answer(422, b"\n the total is missing \nline 2"), Verdict.REJECTED, "the total is missing"),
        (Answer(422, b"<html>", {"Content-Type": "text/html"}), Verdict.REJECTED, "URL answered 422 Unprocessable Entity"),
        (Answer(413), Verdict.REJECTED, "URL answered 413 Request Entity Too Large"),
        (Answer(401, b"token expired"), Verdict.RETRY_ISOLATED, "URL answered 401 Unauthorized: token expired"),
        (Answer(404), Verdict.RETRY_ISOLATED, "URL answered 404 Not Found"),
        (Answer(422, b'{\n "detail": "no total"\n}', JSON), Verdict.REJECTED, "no total"),
        (Answer(422, b'{"title": "Bad", "detail": "no total"}', PROBLEM), Verdict.REJECTED, "no total"),
        (Answer(422, b'{"errors": [1]}', JSON), Verdict.REJECTED, "URL answered 422 Unprocessable Entity"),
        (Answer(422, b"[" * 5000, JSON), Verdict.REJECTED, "URL answered 422 Unprocessable Entity"),
        (Answer(408), Verdict.RETRY_ISOLATED, "URL answered 408 Request Timeout"),
        (Answer(425), Verdict.RETRY_ISOLATED, "URL answered 425 Too Early"),
        (Answer(429, b"slow down"), Verdict.RETRY_ISOLATED, "URL answered 429 Too Many Requests: slow down"),
        (Answer(500, b"\xff\x1b[31m"), Verdict.RETRY_ISOLATED, "URL answered 500 Internal Server Error: \ufffd\\x1b[31m"),
        (Answer(503), Verdict.RETRY_ISOLATED, "URL answered 503 Service Unavailable"),
    ],
)
def test_the_status_says_what_becomes_of_the_file(
    server: WebhookServer, answer: Answer, verdict: Verdict, said: object, path: Path
) -> None:
    server.answers(answer)

    call = send(path, server.url + "?token=hidden")

    expected = said.replace("URL", server.url) if isinstance(said, str) else said
    assert (call.verdict, call.result if verdict is Verdict.DONE else call.reason) == (verdict, expected)
    assert call.error is None


def test_a_huge_answer_is_not_read(server: WebhookServer, path: Path) -> None:
    server.answers(Answer(200, b"x" * 50_000_000))

    assert send(path, server.url).verdict is Verdict.DONE
    assert send(path, server.url).verdict is Verdict.DONE


def test_retry_after_is_passed_on_and_other_files_are_sent(server: WebhookServer, path: Path) -> None:
    server.answers(Answer(503, headers={"Retry-After": "30"}), Answer())

    first, second = send(path, server.url), send(path, server.url)

    assert (first.verdict, first.retry_after) == (Verdict.RETRY_ISOLATED, 30.0)
    assert second.verdict is Verdict.DONE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-1", None), ("9" * 400, None),
        (email.utils.formatdate(1000.0 + 60, usegmt=True), 60.0), (email.utils.formatdate(0.0, usegmt=True), 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text, 1000.0) == seconds


def test_a_redirect_that_keeps_the_method_is_followed_on_the_same_server(server: WebhookServer, path: Path) -> None:
    server.answers(Answer(307, headers={"Location": "/new"}), Answer(200))

    assert send(path, server.url).verdict is Verdict.DONE

    assert [(request.path, request.body) for request in server.requests] == [("/incoming", CONTENT), ("/new", CONTENT)]


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (307, "http://other.example/x"),
        (308, "https://localhost/x"),
        (307, "//evil.example"),
        (302, "/new"),
        (301, "/new"),
        (307, ""),
    ],
)
def test_other_redirects_are_not_followed(server: WebhookServer, status: int, location: str, path: Path) -> None:
    server.answers(Answer(status, headers={"Location": location} if location else {}), Answer(307, headers={"Location": ""}))

    call = send(path, server.url)

    assert call.verdict is Verdict.RETRY_ISOLATED
    assert call.reason is not None
    assert "name that URL" in call.reason or "name the last URL" in call.reason


@pytest.mark.parametrize(
    "location", ["https://host/hook?code=hidden#x", "?code=hidden", "http://me:hidden@[::1]:7/", "http://[", "http://h:99999/"]
)
def test_no_redirect_shows_a_secret(server: WebhookServer, location: str, path: Path) -> None:
    server.answers(Answer(302, headers={"Location": location}))

    call = send(path, server.url + "?code=hidden")

    assert "name that URL" in (call.reason or "")
    assert "hidden" not in (call.reason or "")


def test_an_echoed_authorization_is_not_shown(server: WebhookServer, path: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer hidden-token\n")
    server.answers(Answer(422, b"bad credentials: hidden-token (Bearer hidden-token)"))

    call = send(path, server.url, authorization_file=str(tmp_path / "token"))

    assert call.reason == "bad credentials: *** (***)"


@pytest.mark.parametrize("body", ["raw", "multipart"])
@pytest.mark.parametrize("change", [b"POST /admin HTTP/1.1\r\nContent-Length: 0\r\n\r\n", None], ids=["grows", "shrinks"])
def test_a_file_that_changes_while_it_is_sent_is_no_second_request(
    server: WebhookServer, change: bytes | None, body: str, path: Path
) -> None:
    path.write_bytes(b"x" * 600_000)
    handler = run_handler.load_handler(HandlerKeys.model_validate({"url": server.url, "body": body}))
    file = InboxFile.of(path, sha256="0" * 64)
    assert file.content_type
    with path.open("r+b") as other:
        other.seek(0, 2)
        other.write(change) if change else other.truncate(1000)

    changed = run_handler.run_handler(handler, file, LIMIT, time.monotonic())
    next_one = send(path, server.url)

    assert (changed.verdict, changed.reason) == (Verdict.RETRY_ISOLATED, "the file was changed while it was sent")
    assert next_one.verdict is Verdict.DONE
    assert {request.path for request in server.requests} == {"/incoming"}
    assert len(server.requests) <= 2


# connections


def test_a_connection_that_is_refused_or_ends_is_tried_again(server: WebhookServer, path: Path) -> None:
    server.answers(Answer(closes=True))

    ended = send(path, server.url)
    refused = send(path, f"http://localhost:{free_port()}/")

    assert (ended.verdict, refused.verdict) == (Verdict.RETRY_ISOLATED, Verdict.RETRY_ISOLATED)
    assert "closed connection without response" in (ended.reason or "")
    assert "Connection refused" in (refused.reason or "")
    assert "object at 0x" not in f"{ended.reason} {refused.reason}"


def test_a_host_that_is_unknown_is_named(path: Path) -> None:
    call = send(path, "http://no-such-host.invalid/")

    assert call.verdict is Verdict.RETRY_ISOLATED
    assert (call.reason or "").startswith("http://no-such-host.invalid/: ")
    assert "object at 0x" not in (call.reason or "")


def test_the_time_limit_ends_a_server_that_does_not_answer(server: WebhookServer, path: Path) -> None:
    server.answers(Answer(waits=600))

    def interrupt(_number: int, _frame: object) -> None:
        raise SoftTimeLimitExceeded

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    call = send(path, server.url)
    signal.signal(signal.SIGALRM, previous)

    assert (call.verdict, call.timed_out) == (Verdict.RETRY_ISOLATED, True)


# certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a self-signed certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


def test_an_own_authority_is_trusted_and_no_other(certificate: Path, path: Path) -> None:
    with WebhookServer(certificate).running() as server:
        trusted = send(path, server.url, ca_file=str(certificate.with_name("cert.pem")))
        unknown = send(path, server.url)
        wrong_name = send(path, server.url.replace("localhost", "127.0.0.1"), ca_file=str(certificate.with_name("cert.pem")))

    assert trusted.verdict is Verdict.DONE
    assert (unknown.verdict, wrong_name.verdict) == (Verdict.RETRY_ISOLATED, Verdict.RETRY_ISOLATED)
    assert "self-signed certificate" in (unknown.reason or "")
    assert "127.0.0.1" in (wrong_name.reason or "")
    assert len(server.requests) == 1
