"""A URL as an inbox's handler: each file is sent by POST, and the answer's status says what becomes of it."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.fields import RequestField

from inboxd.config.handler_kinds import ProgramKeys
from inboxd.config.secret_files import authorization_credential, read_secret, read_signing_key, secret_credential
from inboxd.errors import HandlerFailed, RejectFile, RetryLater, SettingsError
from inboxd.handling.kept_answer import keep_answer
from inboxd.logs.text import escape, shorten
from inboxd.messaging.inbox_file import InboxFile

TIMEOUT = urllib3.Timeout(connect=10.0, read=86_400.0)
"""How long a connection may take, in seconds; for the answer, the inbox's time limit counts."""
POOL_SIZE = 16
"""Number of connections that a process keeps: one for each of its threads that sends."""
REDIRECTS_MAX = 5
RETRIED = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 429})
"""Answers that say: later, or that the settings are at fault. All others from 400 to 499 say that the file is."""
REDIRECTS, KEPT_METHOD = frozenset({301, 302, 303, 307, 308}), frozenset({307, 308})
ANSWER_BYTES_MAX, REASON_CHARS_MAX = 8192, 500
REASON_NAMES = ("detail", "message", "error", "title", "reason")
"""Where a JSON object has a text for people: as RFC 9457 says, and as frameworks do."""
FIELD = "file"
"""The name of the form's field with the file, in a multipart body."""

_CHUNK_BYTES = 256 * 1024


class WebhookHandler:
    """Sends each file to an inbox's URL. Connections are kept for the next file of the same process."""

    def __init__(self, keys: ProgramKeys) -> None:
        self._keys = keys
        self._secrets: tuple[str, ...] = ()
        authorities = {"cert_reqs": "CERT_REQUIRED", "ca_certs": keys.ca_file or None}
        is_encrypted = urlsplit(keys.url).scheme == "https"
        self._pool = urllib3.connection_from_url(keys.url, maxsize=POOL_SIZE, **(authorities if is_encrypted else {}))

    def __call__(self, file: InboxFile) -> dict[str, Any]:
        """Send the file; return the answer's status and first line. Raises RejectFile, RetryLater or HandlerFailed."""
        body = _make_form(file) if self._keys.body == "multipart" else _Body(file, file.content_type)
        status, reason, headers, first_line = self._send(file, body)
        said = f"{status} {reason}" + (f": {first_line}" if first_line else "")
        if 200 <= status < 300:  # noqa: PLR2004 - success
            return {"status": status, **({"answer": first_line} if first_line else {})}
        if 400 <= status < 500 and status not in RETRIED:  # noqa: PLR2004 - the client's fault
            raise RejectFile(first_line or f"{self._shown} answered {said}")
        failure = f"{self._shown} answered {said}"
        if (seconds := parse_retry_after(headers.get("Retry-After", ""), time.time())) is not None:
            raise RetryLater(failure, seconds)
        raise HandlerFailed(failure)

    def _send(self, file: InboxFile, body: "_Body") -> tuple[int, str, urllib3.HTTPHeaderDict, str]:
        """Return the answer's status and its name, its headers, and its first line."""
        url = self._keys.url
        for _ in range(REDIRECTS_MAX + 1):
            headers = self._headers(file, body)
            try:
                answer = self._pool.urlopen(
                    "POST", _target(url), body=body.chunks(), headers=headers, timeout=TIMEOUT, redirect=False, retries=False,
                    assert_same_host=False, preload_content=False,
                )  # fmt: skip
                try:
                    content = self._read(file, answer)
                finally:
                    answer.release_conn()
            except (HTTPError, OSError) as error:
                raise HandlerFailed(f"{self._shown}: {_describe(error)}") from None
            if answer.status not in REDIRECTS:
                return answer.status, answer.reason or "", answer.headers, self._mask(_find_reason(answer.headers, content))
            url = self._follow(url, answer.status, answer.headers.get("Location", ""))
        raise HandlerFailed(f"{self._shown} redirects more than {REDIRECTS_MAX} times: name the last URL")

    def _read(self, file: InboxFile, answer: urllib3.BaseHTTPResponse) -> bytes:
        """Return the beginning of an answer, or keep all of it as outputs. Raises HTTPError, OSError, HandlerFailed."""
        if self._keys.keep_answer and 200 <= answer.status < 300:  # noqa: PLR2004 - success
            keep_answer(file, answer)
            return b""
        content = answer.read(ANSWER_BYTES_MAX, decode_content=True)
        answer.drain_conn() if len(content) < ANSWER_BYTES_MAX else answer.close()
        return content

    def _follow(self, url: str, status: int, location: str) -> str:
        """Return where a redirect leads. A file is only sent to the server that the settings name. Raises HandlerFailed."""
        try:
            target = urljoin(url, location)
            if status in KEPT_METHOD and location and _origin(target) == _origin(url):
                return target
            shown = _without_secrets(target)
        except ValueError:
            shown = "an address that can't be read"
        raise HandlerFailed(f"{self._shown} answered {status}, to go to {shown} instead: if that is right, name that URL")

    def _mask(self, text: str) -> str:
        """Return a text in which a server has echoed the header Authorization without what is secret in it."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _headers(self, file: InboxFile, body: "_Body") -> dict[str, str]:
        headers = {
            "User-Agent": "inboxd",
            "Content-Type": body.content_type,
            "Content-Length": str(body.length),
            "Idempotency-Key": file.id,
            "Inboxd-File-Id": file.id,
            "Inboxd-File-Name": quote(file.raw_filename),
            "Inboxd-File-Path": quote(file.relative_path.encode("utf-8", "surrogateescape")),
            "Inboxd-File-Sha256": file.sha256,
            "Inboxd-Inbox": file.inbox,
            "Inboxd-Attempt": str(file.attempt),
        }
        return headers | self._secret_headers(file, body)

    def _secret_headers(self, file: InboxFile, body: "_Body") -> dict[str, str]:
        headers = {}
        try:
            if self._keys.authorization_file:
                headers["Authorization"] = read_secret(self._keys.authorization_file, authorization_credential(file.inbox))
                self._secrets = (headers["Authorization"], headers["Authorization"].rpartition(" ")[2])
            if self._keys.secret_file:
                key = read_signing_key(self._keys.secret_file, secret_credential(file.inbox))
                headers |= sign(key, file.id, int(time.time()), body.chunks())
        except SettingsError as error:
            raise HandlerFailed(f"{error.findings[0].where} {error.findings[0].problem}") from None
        return headers

    @property
    def _shown(self) -> str:
        """The URL without its query, which may hold a token."""
        return _without_secrets(self._keys.url)


class _Body:
    """What is sent, and read more than once: the file, and in a form what stands around it."""

    def __init__(self, file: InboxFile, content_type: str, head: bytes = b"", tail: bytes = b"") -> None:
        self._file, self._head, self._tail = file, head, tail
        self.content_type = content_type
        self.length = len(head) + file.size + len(tail)

    def chunks(self) -> Iterator[bytes]:
        """Yield ``length`` bytes, or raise HandlerFailed for a file of another size: a server takes more for a new request."""
        yield self._head
        sent = 0
        for chunk in self._file.chunks(_CHUNK_BYTES):
            sent += len(chunk)
            if sent > self._file.size:
                break
            yield chunk
        if sent != self._file.size:
            raise HandlerFailed("the file was changed while it was sent")
        yield self._tail


def _make_form(file: InboxFile) -> _Body:
    """Return a form with the file, as a browser sends it."""
    boundary = hashlib.sha256(f"{file.id} {file.sha256}".encode()).hexdigest()
    field = RequestField(FIELD, b"", filename=file.filename.encode("utf-8", "replace").decode())
    field.make_multipart(content_type=file.content_type)
    head = f"--{boundary}\r\n{field.render_headers()}".encode()
    return _Body(file, f"multipart/form-data; boundary={boundary}", head, f"\r\n--{boundary}--\r\n".encode())


def sign(key: bytes, message_id: str, timestamp: int, body: Iterator[bytes]) -> dict[str, str]:
    """Return the headers of a signature, as standardwebhooks.com specifies them: an HMAC-SHA256 of id, time and body."""
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode(), hashlib.sha256)
    for chunk in body:
        digest.update(chunk)
    signature = base64.b64encode(digest.digest()).decode()
    return {"Webhook-Id": message_id, "Webhook-Timestamp": str(timestamp), "Webhook-Signature": f"v1,{signature}"}


def parse_retry_after(text: str, now: float) -> float | None:
    """Return the seconds that a server asks to wait, as a number or as a date; None if it does not. ``now`` in unix seconds."""
    if text.strip().isdecimal():
        return float(text) if len(text) < 10 else None  # noqa: PLR2004 - 30 years
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _target(url: str) -> str:
    """Return what stands in the first line of a request: a URL's path and query."""
    return urllib3.util.parse_url(url).request_uri


def _without_secrets(url: str) -> str:
    """Return a URL without its query and its user. Raises ValueError."""
    parts = urlsplit(url)
    return escape(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _find_reason(headers: urllib3.HTTPHeaderDict, content: bytes) -> str:
    """Return what an answer says: a text's first line, or a text in a JSON object under one of its usual names; else ""."""
    media_type = headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()
    text = content.decode("utf-8", "replace")
    if media_type == "application/json" or media_type.endswith("+json"):
        text = _find_text(text)
    elif media_type != "text/plain":
        return ""
    lines = (line.strip() for line in text.splitlines())
    return escape(shorten(next((line for line in lines if line), ""), REASON_CHARS_MAX))


def _find_text(text: str) -> str:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if isinstance(answer, str):
        return answer
    found = [answer.get(name) for name in REASON_NAMES] if isinstance(answer, dict) else []
    return next((value for value in found if isinstance(value, str) and value.strip()), "")


def _describe(error: Exception) -> str:
    """Return what went wrong with a connection, without the address of an object."""
    cause = getattr(error, "reason", None) or error.__cause__ or error
    text = str(cause).rpartition(": ")[2] if "object at 0x" in str(cause) else str(cause)
    return f"{type(cause).__name__}: {text}"
