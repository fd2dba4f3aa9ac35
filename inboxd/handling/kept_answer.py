"""What a webhook answers, kept as outputs of its file: one file, or each part of a multipart answer."""

import contextlib
import email.policy
import mimetypes
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import PurePath
from typing import Any

from inboxd.errors import HandlerFailed
from inboxd.messaging.inbox_file import InboxFile

PARTS_BYTES_MAX = 32 * 1024 * 1024
"""Maximum size of a multipart answer, which is read as a whole; a single file may be of any size."""
_CHUNK_BYTES = 256 * 1024
_NAME_BYTES_MAX = 200


def keep_answer(file: InboxFile, answer: Any) -> list[str]:  # noqa: ANN401 - urllib3.BaseHTTPResponse
    """Write the body of an answer into outputs; return their names, [] for an answer without a body.

    Raises HandlerFailed for one that is too large, OSError if it can't be stored, and urllib3's errors if it ends too early.
    """
    head = _parse_head(answer.headers)
    if head.get_content_maintype() == "multipart":
        return _keep_parts(file, head, answer)
    chunks = answer.stream(_CHUNK_BYTES, decode_content=True)
    first = next((chunk for chunk in chunks if chunk), b"")
    if not first:
        return []
    name = _name_of(head, file, 0)
    with file.output(name) as output:
        output.write(first)
        for chunk in chunks:
            output.write(chunk)
    return [name]


def _keep_parts(file: InboxFile, head: EmailMessage, answer: Any) -> list[str]:  # noqa: ANN401
    body = answer.read(PARTS_BYTES_MAX + 1, decode_content=True)
    if len(body) > PARTS_BYTES_MAX:
        raise HandlerFailed(f"the parts of the answer have more than {PARTS_BYTES_MAX} bytes: answer with one file")
    content_type = b"Content-Type: " + str(head["Content-Type"]).encode("ascii", "replace") + b"\r\n\r\n"
    message: Any = BytesParser(policy=email.policy.HTTP).parsebytes(content_type + body)
    if not message.is_multipart() or message.defects:
        raise HandlerFailed("the answer says that it has several parts, and they can't be read")
    names: list[str] = []
    for number, part in enumerate(message.iter_parts(), start=1):
        content = part.get_payload(decode=True)
        if content is None:
            raise HandlerFailed(f"part {number} of the answer has parts itself: send it as application/octet-stream")
        name = _name_of(part, file, number)
        while name in names:
            name = f"{number}-{name}"
        with file.output(name) as output:
            output.write(content)
        names.append(name)
    return names


def _parse_head(headers: Any) -> EmailMessage:  # noqa: ANN401 - urllib3.HTTPHeaderDict
    head = EmailMessage(policy=email.policy.HTTP)
    for name in ("Content-Type", "Content-Disposition"):
        with contextlib.suppress(LookupError, ValueError):  # in a charset that does not exist, or does not fit
            if value := headers.get(name):
                head[name] = "".join(character for character in value if character.isprintable())
    return head


def _name_of(head: EmailMessage, file: InboxFile, number: int) -> str:
    """Return the name of a part: the last component of the one that it gives itself, or the file's with its type."""
    try:
        given = PurePath((head.get_filename() or "").replace("\\", "/").replace("\0", "")).name
    except (LookupError, ValueError):  # likewise
        given = ""
    given = given.encode("utf-8", "replace").decode()
    if given and given not in (".", "..") and len(given.encode()) <= _NAME_BYTES_MAX:
        return given
    suffix = mimetypes.guess_extension(head.get_content_type()) if "Content-Type" in head else None
    return f"{PurePath(file.filename).stem}{f'-{number}' if number else ''}{suffix or '.bin'}"
