"""What a message says, and that names and reasons of droppers' files can do nothing in it."""

import pytest

from inboxd.notify.digest import FAILED, PAUSED, RECOVERED, STUCK, Failure, News
from inboxd.notify.messages import FILES_MAX, Message, files_of, quote, write_message

HOSTILE = [
    b"a\nBcc: everybody@example.org\r\n\r\n.pdf",
    b"<script>alert(1)</script>.pdf",
    b"<!channel> <@U123> <https://evil.example|click>.pdf",
    b"@everyone @here.pdf",
    b"[click](https://evil.example).pdf",
    b"`code` \x1b[2J \xe2\x80\xae \xff.pdf",
]


def write(*news: News, failures: tuple[Failure, ...] = ()) -> Message:
    return write_message("host-1", news, {"drop": failures})


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_or_reason_is_text_on_one_line(name: bytes) -> None:
    plain = write(News("drop", FAILED, files=1), failures=(Failure(b"a", "b"),))

    message = write(News("drop", FAILED, files=1), failures=(Failure(name, name.decode("utf-8", "replace")),))

    assert message.title == plain.title
    assert len(message.body.splitlines()) == len(plain.body.splitlines())
    assert all(line.isprintable() for line in message.body.splitlines())
    for token in ("<", ">", "://", "](", "@everyone", "@here", "`"):
        assert token not in message.body


def test_a_hostile_text_of_a_pause_is_quoted_too() -> None:
    assert "<b>" not in write(News("drop", PAUSED, "<b>\n")).body


def test_a_long_name_is_cut() -> None:
    assert len(quote(b"x" * 5000)) < 200


def test_the_title_names_inboxes_and_numbers() -> None:
    assert write(News("drop", FAILED, files=3)).title == "inboxd on host-1: 3 files failed in drop"
    both = write(News("drop", FAILED, files=1), News("other", FAILED, files=1), News("drop", PAUSED, "full"))
    assert both.title == "inboxd on host-1: 2 files failed, drop paused"
    several = [News(f"i{number}", RECOVERED, "x") for number in range(3)]
    assert write(*several).title == "inboxd on host-1: 3 inboxes recovered"


def test_of_many_failures_some_are_named_and_the_rest_is_counted() -> None:
    failures = tuple(Failure(b"%d.pdf" % number, "no total") for number in range(FILES_MAX))

    body = write(News("drop", FAILED, files=1234), failures=failures).body

    assert body.startswith("Inbox drop: 1234 files failed, the newest:")
    assert f"… and {1234 - FILES_MAX} more in failed/" in body
    assert "inboxd retry --inbox drop" in body


def test_many_inboxes_are_told_in_a_short_message() -> None:
    news = [News(f"inbox-{number}", FAILED, files=10) for number in range(500)]
    failures = {item.inbox: [Failure(b"x" * 500, "y" * 500)] * files_of(news) for item in news}

    message = write_message("host-1", news, failures)

    assert message.title == "inboxd on host-1: 5000 files failed"
    assert "490 further inboxes have news, and 4900 failed files: inboxd status" in message.body
    assert len(message.body) < 6000


@pytest.mark.parametrize(
    ("kinds", "kind"), [([FAILED], "warning"), ([FAILED, PAUSED], "failure"), ([STUCK], "failure"), ([RECOVERED], "success")]
)
def test_the_kind_of_a_message_is_that_of_the_worst_news(kinds: list[str], kind: str) -> None:
    assert write(*(News("drop", each, "x", files=each == FAILED) for each in kinds)).kind == kind
