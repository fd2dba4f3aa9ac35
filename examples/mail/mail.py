"""Take e-mails apart: each attachment becomes a file, the text and some headers become message.json."""

import json
import mimetypes
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_binary_file
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.policy import Compat32
from pathlib import PurePosixPath

from inboxd import InboxFile, RejectFile

SUMMARY = "message.json"
HEADERS = ("From", "To", "Cc", "Date", "Subject", "Message-ID")
EVIDENCE = frozenset({"from", "sender", "date", "received", "message-id", "return-path"})
"""Without any of these headers a file is no e-mail."""
NAME_CHARACTERS_MAX = 60  # of at most 4 bytes each


def take_apart(file: InboxFile) -> dict[str, int]:
    """Make an output of each part of an e-mail that is not plain text, and one of the rest. Raises RejectFile."""
    try:
        message = message_from_binary_file(file.stream, policy=TolerantPolicy())
        if not EVIDENCE & {name.lower() for name in message.keys()}:  # noqa: SIM118 - a message is no dict
            raise RejectFile("This is no e-mail: it has neither a sender nor a date.")
        contents = _sort(message)
    except RecursionError:
        raise RejectFile("The parts of this e-mail are nested too deeply.") from None
    for name, content in contents.files.items():
        with file.output(name) as output:
            output.write(content)
    summary = {header.lower(): _header(message, header) for header in HEADERS}
    summary |= {"text": "\n".join(contents.texts), "files": [*contents.files]}
    with file.output(SUMMARY) as output:
        output.write(json.dumps(summary, ensure_ascii=False, indent=2).encode())
    return {"files": len(contents.files)}


class TolerantPolicy(Compat32):
    """Compat32, which accepts every e-mail; but bytes of headers that are not ASCII are taken for UTF-8."""

    def header_fetch_parse(self, name: str, value: str) -> str:  # noqa: ARG002 - of the base class
        """Return a header's value."""
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@dataclass
class Contents:
    """What is in an e-mail: its plain texts, and all other parts by names that differ."""

    texts: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    _used: set[str] = field(default_factory=lambda: {SUMMARY})

    def add_file(self, name: str, content: bytes) -> None:
        """Add a file; if there is one of its name, in whatever case, it is numbered."""
        path, number = PurePosixPath(name), 1
        while name.casefold() in self._used:
            number += 1
            name = f"{path.stem} ({number}){path.suffix}"
        self._used.add(name.casefold())
        self.files[name] = content


def _sort(message: Message) -> Contents:
    contents = Contents()
    for number, part in enumerate(_leaves(message), start=1):
        is_text = part.get_content_type() == "text/plain" and part.get_content_disposition() != "attachment"
        if is_text and not part.get_filename():
            contents.texts.append(_text(part).replace("\r\n", "\n"))
        else:
            contents.add_file(_file_name(part, number), _content(part))
    return contents


def _leaves(message: Message) -> Iterator[Message]:
    """Yield the parts that have contents. A message in a message is one part, as it was sent."""
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        for part in message.get_payload():
            yield from _leaves(part)
    else:
        yield message


def _content(part: Message) -> bytes:
    if part.is_multipart():  # message/rfc822 has one message in it, message/delivery-status has several blocks of headers
        inner = part.get_payload()
        if len(inner) == 1 and not inner[0].keys():  # the message was encoded, which the standard forbids and some programs do
            inner[0]["Content-Transfer-Encoding"] = part.get("Content-Transfer-Encoding", "7bit")
            return inner[0].get_payload(decode=True) or b""
        return b"".join(message.as_bytes() for message in inner)
    return part.get_payload(decode=True) or b""


def _text(part: Message) -> str:
    """Return a part's text, by its charset or, if that is wrong, by one in which no byte is lost."""
    content = _content(part)
    for charset in (part.get_content_charset() or "utf-8", "utf-8"):
        try:
            return content.decode(charset)
        except (LookupError, ValueError):  # an unknown charset, or bytes that it does not have
            continue
    return content.decode("latin-1")


def _header(message: Message, name: str) -> str:
    return ", ".join(map(_decode, message.get_all(name, [])))


def _decode(value: str) -> str:
    """Return a header's text: encoded words are decoded, and what can't be decoded stays as it is."""
    with suppress(LookupError, ValueError, HeaderParseError):
        value = str(make_header(decode_header(value)))
    return " ".join(value.encode("utf-8", "replace").decode().split())


def _file_name(part: Message, number: int) -> str:
    """Return the name of a part, without folders and what would hide the file or end its name."""
    name = _decode(part.get_filename() or "").replace("\\", "/").rpartition("/")[2]
    name = "".join(letter for letter in name if letter.isprintable()).strip(" .")
    if not name:
        kind = part.get_content_type()
        name = f"part-{number}{'.eml' if kind == 'message/rfc822' else mimetypes.guess_extension(kind) or '.bin'}"
    path = PurePosixPath(name)
    suffix = path.suffix[: NAME_CHARACTERS_MAX // 2]
    return path.stem[: NAME_CHARACTERS_MAX - len(suffix)] + suffix
