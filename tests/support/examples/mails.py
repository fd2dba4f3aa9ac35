"""E-mails of many kinds, built by Python's email package or by hand, each with what examples/mail should make of it."""

from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP

PDF = b"%PDF-1.4 some bytes \x00\xff\r\n"
PNG = b"\x89PNG\r\n\x1a\n\x00"


@dataclass(frozen=True)
class Mail:
    """An e-mail, with the text, the files and some values of message.json that should become of it."""

    content: bytes
    text: str
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def letter(subject: str = "A letter", text: str | None = "Hello\n") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "Ann <ann@example.org>", "Bob <bob@example.org>"
    message["Subject"] = subject
    if text is not None:
        message.set_content(text)
    return message


def by_hand(*lines: bytes, headers: bytes = b"From: ann@example.org\n") -> bytes:
    return headers + b"\n".join(lines) + b"\n"


def attach(message: EmailMessage, content: bytes, name: str | None, kind: str = "application/pdf") -> None:
    maintype, subtype = kind.split("/")
    message.add_attachment(content, maintype, subtype, filename=name)


def _plain() -> Mail:
    return Mail(letter("Grüße aus Köln", "Schöne Grüße\n").as_bytes(), "Schöne Grüße\n", {}, {
        "subject": "Grüße aus Köln", "from": "Ann <ann@example.org>", "to": "Bob <bob@example.org>", "date": "",
    })  # fmt: skip


def _attachments() -> Mail:
    message = letter()
    names = ("a.pdf", "a.pdf", "A.PDF", "message.json", "a (2).pdf", "Rechnung März №1.pdf", None, "x" * 300 + ".pdf")
    for number, name in enumerate(names):
        attach(message, PDF + b"%d" % number, name)
    wanted = (
        "a.pdf", "a (2).pdf", "A (3).PDF", "message (2).json", "a (2) (2).pdf", "Rechnung März №1.pdf", "part-8.pdf",
        "x" * 56 + ".pdf",
    )  # fmt: skip
    return Mail(message.as_bytes(policy=SMTP), "Hello\n", {name: PDF + b"%d" % number for number, name in enumerate(wanted)})


def _evil_names() -> Mail:
    message = letter()
    names = (
        "../../etc/passwd",
        "C:\\Windows\\evil.exe",
        "/etc/shadow",
        "..",
        ".bashrc",
        "a\tb.txt",
        "no\u202egpj.exe",
        ".inboxd-x",
    )
    for name in names:
        attach(message, PDF, name)
    wanted = ("passwd", "evil.exe", "shadow", "part-5.pdf", "bashrc", "a b.txt", "nogpj.exe", "inboxd-x")
    return Mail(message.as_bytes(), "Hello\n", dict.fromkeys(wanted, PDF))


def _nested() -> Mail:
    message = letter()
    message.add_alternative("<p>Hello <img src='cid:logo'></p>", "html")
    message.get_payload()[1].add_related(PNG, "image", "png", cid="<logo>")
    attach(message, PDF, "a.pdf")
    return Mail(
        message.as_bytes(), "Hello\n", {"part-2.html": b"<p>Hello <img src='cid:logo'></p>\n", "part-3.png": PNG, "a.pdf": PDF}
    )


def _forwarded() -> Mail:
    inner = letter("Inner", "Inner text\n")
    attach(inner, PDF, "inner.pdf")
    message = letter("Fwd")
    message.add_attachment(inner)
    message.add_attachment(inner, filename="named.eml")
    return Mail(message.as_bytes(), "Hello\n", {"part-2.eml": inner.as_bytes(), "named.eml": inner.as_bytes()})


ENCODED_NAMES = by_hand(
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?iso-8859-1?q?_f=FCr_alle?=",
    b'Content-Type: multipart/mixed; boundary="b"', b"",
    b"--b", b"Content-Type: application/pdf; name==?utf-8?B?TcOkcnoucGRm?=", b"Content-Disposition: attachment", b"", b"one",
    b"--b", b"Content-Type: application/pdf", b'Content-Disposition: attachment; filename="=?utf-8?Q?=2E=2E=2FM=C3=A4rz.pdf?="',
    b"", b"two",
    b"--b", b"Content-Type: application/pdf",
    b"Content-Disposition: attachment; filename*0*=utf-8''M%C3%A4; filename*1=\"rz.\"; filename*2*=tx%74", b"", b"three",
    b"--b", b"Content-Type: application/pdf", b"Content-Disposition: attachment; filename*=klingon''a%FFb.txt", b"", b"four",
    b"--b--",
)  # fmt: skip

BROKEN_CHARSETS = by_hand(
    b"Subject: =?klingon?q?abc?=", b'Content-Type: multipart/mixed; boundary="b"', b"",
    b"--b", b"Content-Type: text/plain; charset=klingon", b"Content-Transfer-Encoding: 8bit", b"", "schön".encode(),
    b"--b", b"Content-Type: text/plain; charset=us-ascii", b"Content-Transfer-Encoding: 8bit", b"", "früh".encode("latin-1"),
    b"--b", b"Content-Type: text/plain; charset=base64", b"", b"no text codec",
    b"--b", b'Content-Type: text/plain; charset="undefined"', b"", b"undefined",
    b"--b", b"Content-Type: text/plain; charset=utf-16", b"", b"odd",
    b"--b--",
)  # fmt: skip

RAW_HEADERS = by_hand(
    b"Subject: Gr\xc3\xbc\xc3\x9fe", b"To: a@example.org,", b" b@example.org", b"Cc: c@example.org", b"Cc: d@example.org",
    b"Date: no date", b"Message-ID: <1@[", b'Content-Type: application/pdf; name="M\xc3\xa4rz.pdf"', b"", b"content",
)  # fmt: skip

BROKEN_BOUNDARY = by_hand(b'Content-Type: multipart/mixed; boundary="b"', b"", b"text without a boundary")
UNFINISHED = by_hand(
    b'Content-Type: multipart/mixed; boundary="b"', b"", b"--b", b"", b"the text", b"--b",
    b'Content-Type: application/pdf; name="a.pdf"', b"Content-Transfer-Encoding: base64", b"", b"YWJjZGVm",
)  # fmt: skip
BAD_BASE64 = by_hand(b'Content-Type: application/pdf; name="a.pdf"', b"Content-Transfer-Encoding: base64", b"", b"abcde")

REPORT = by_hand(
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b", b"", b"--b", b"", b"Not delivered.",
    b"--b", b"Content-Type: message/delivery-status", b"", b"Reporting-MTA: dns; mx", b"", b"Final-Recipient: rfc822; bob",
    b"Action: failed", b"", b"--b", b"Content-Type: text/rfc822-headers", b"", b"Subject: old", b"", b"--b--",
)  # fmt: skip
ENCODED_MESSAGE = by_hand(
    b"Content-Type: multipart/mixed; boundary=b", b"", b"--b", b'Content-Type: message/rfc822; name="in.eml"',
    b"Content-Transfer-Encoding: base64", b"", b"RnJvbTogYW5uCgpoZWxsbwo=", b"--b--",
)  # fmt: skip

MAILS = {
    "plain": _plain(),
    "attachments": _attachments(),
    "evil names": _evil_names(),
    "nested": _nested(),
    "forwarded": _forwarded(),
    "only an attachment": Mail(by_hand(b"Content-Type: application/pdf", b"", b"content"), "", {"part-1.pdf": b"content\n"}),
    "no body": Mail(by_hand(b"Subject: empty"), "", {}, {"subject": "empty", "from": "ann@example.org"}),
    "mbox": Mail(by_hand(b"", b"text", headers=b"From ann Mon Nov 30 12:00:00 2026\nReceived: by mx\n"), "text\n"),
    "encoded names": Mail(
        ENCODED_NAMES, "", {"März.pdf": b"one", "März (2).pdf": b"two", "März.txt": b"three", "aÿb.txt": b"four"},
        {"subject": "Grüße für alle"},
    ),
    "broken charsets": Mail(
        BROKEN_CHARSETS, "schön\nfrüh\nno text codec\nundefined\nodd", {}, {"subject": "=?klingon?q?abc?="}
    ),
    "raw headers": Mail(RAW_HEADERS, "", {"März.pdf": b"content\n"}, {
        "subject": "Grüße", "to": "a@example.org, b@example.org", "cc": "c@example.org, d@example.org", "date": "no date",
        "message-id": "<1@[",
    }),
    "broken boundary": Mail(BROKEN_BOUNDARY, "", {"part-1.bin": b"text without a boundary\n"}),
    "unfinished": Mail(UNFINISHED, "the text", {"a.pdf": b"abcdef"}),
    "bad base64": Mail(BAD_BASE64, "", {"a.pdf": b"abcde"}),
    "report": Mail(REPORT, "Not delivered.", {
        "part-2.bin": b"Reporting-MTA: dns; mx\n\nFinal-Recipient: rfc822; bob\nAction: failed\n\n",
        "part-3.bin": b"Subject: old\n",
    }),
    "encoded message": Mail(ENCODED_MESSAGE, "", {"in.eml": b"From: ann\n\nhello\n"}),
}  # fmt: skip

NO_MAILS = {
    "text": b"this is a text\n",
    "empty lines": b"\n\nFrom: ann@example.org\n",
    "other headers": b"Title: a text\nAuthor: Ann\n\ntext\n",
    "picture": PNG,
    "nul": bytes(100),
}
DEEP = by_hand(
    *(line for level in range(1500) for line in (b"Content-Type: multipart/mixed; boundary=b%d" % level, b"", b"--b%d" % level))
)
