"""Decide what is news for a recipient, and when it may be told. Pure: the time is an argument, in unix seconds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from inboxd.config.tables import Notify
from inboxd.notify.state import UNKNOWN_SECONDS, Mark, Recipient

FAILED, STUCK, PAUSED, RECOVERED = "failed", "stuck", "paused", "recovered"

FIRST_SECONDS = 5.0
"""How long the first news after a quiet time waits for more, in seconds."""
RETRY_SECONDS, RETRY_SECONDS_MAX = 30.0, 1800.0
"""Delay after a message that could not be sent, doubled with each further try, and its maximum, in seconds."""
TRIES_TOLD = 2
"""From this try on, a URL counts as failing: a mail server that greylists refuses the first one."""
CLOCK_AHEAD_SECONDS = 300.0
"""By how much the clock of a file server may be ahead, in seconds; a later time was written by a clock that was set back."""

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Facts:
    """An inbox as it is: failures after a recipient's mark, and the time of the last one; why it is paused, or stuck.

    "" is neither; None is unknown.
    """

    failed: int
    failed_ns: int
    paused: str | None = ""
    stuck: str | None = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed file: the path under which it was dropped, and the first line of the reason."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell of an inbox: how many files failed after ``after_ns``, or a text on its pause or stuck file."""

    inbox: str
    kind: str
    text: str = ""
    files: int = 0
    after_ns: int = 0


def first_mark(now: float) -> Mark:
    """Return the mark of an inbox of which nothing is known."""
    return Mark(int((now - UNKNOWN_SECONDS) * 1e9))


def corrected_mark(mark: Mark, now: float) -> Mark:
    """Return the mark; if it lies in the future, the clock was set back, and it is replaced by that of an unknown inbox."""
    is_ahead = mark.failed_ns > (now + CLOCK_AHEAD_SECONDS) * 1e9
    return replace(mark, failed_ns=first_mark(now).failed_ns) if is_ahead else mark


def set_back(recipient: Recipient, seconds: float) -> Recipient:
    """Return the recipient after its host's clock was set back: files that fail now have times before its marks."""
    marks = {name: replace(mark, failed_ns=mark.failed_ns - int(seconds * 1e9)) for name, mark in recipient.marks.items()}
    sent_at = tuple(at - seconds for at in recipient.sent_at)
    return replace(recipient, marks=marks, sent_at=sent_at, retry_at=recipient.retry_at - seconds)


def find_news(marks: Mapping[str, Mark], facts: Mapping[str, Facts], kinds: Mapping[str, frozenset[str]]) -> list[News]:
    """Return what has changed since the marks, of the ``kinds`` that are told of each inbox."""
    return [
        news for name, fact in facts.items() for news in _changes(name, marks[name], fact) if news.kind in kinds.get(name, ())
    ]


def _changes(name: str, mark: Mark, facts: Facts) -> Iterator[News]:
    if facts.paused and not mark.paused:
        yield News(name, PAUSED, facts.paused)
    if facts.stuck and not mark.stuck:
        yield News(name, STUCK, facts.stuck)
    if facts.paused == "" and mark.paused:
        yield News(name, RECOVERED, f"no longer paused; the reason was: {mark.paused}")
    if facts.stuck == "" and mark.stuck:
        yield News(name, RECOVERED, f"no longer stuck; it was: {mark.stuck}")
    if facts.failed:
        yield News(name, FAILED, files=facts.failed, after_ns=mark.failed_ns)


def advanced(marks: Mapping[str, Mark], facts: Mapping[str, Facts]) -> dict[str, Mark]:
    """Return the marks after everything in ``facts`` was told; what is unknown keeps its mark."""
    changed = {
        name: Mark(
            max(fact.failed_ns, marks[name].failed_ns),
            marks[name].paused if fact.paused is None else fact.paused,
            marks[name].stuck if fact.stuck is None else fact.stuck,
        )
        for name, fact in facts.items()
    }
    return {**marks, **changed}


def due_at(recipient: Recipient, settings: Notify, news_since: float, now: float) -> float:
    """Return when news may be told that have waited since ``news_since``."""
    recent = _last_hour(recipient, now)
    due = [news_since + min(FIRST_SECONDS, settings.every), recipient.retry_at]
    if recent:
        due.append(recent[-1] + settings.every)
    if len(recent) >= settings.hourly_max:
        due.append(recent[-settings.hourly_max] + _HOUR)
    return max(due)


def after_success(recipient: Recipient, facts: Mapping[str, Facts], now: float) -> Recipient:
    """Return the recipient after a message was sent that told ``facts``."""
    return replace(
        recipient, marks=advanced(recipient.marks, facts), sent_at=(*_last_hour(recipient, now), now), tries=0,
        failing_since=0.0, error="", retry_at=0.0,
    )  # fmt: skip


def after_failure(recipient: Recipient, settings: Notify, error: str, now: float) -> Recipient:
    """Return the recipient after a message could not be sent."""
    delay = min(RETRY_SECONDS, settings.every) * 2.0 ** min(recipient.tries, 30)
    return replace(
        recipient, tries=recipient.tries + 1, failing_since=recipient.failing_since or now, error=error,
        retry_at=now + min(delay, RETRY_SECONDS_MAX),
    )  # fmt: skip


def is_failing(recipient: Recipient) -> bool:
    """Return whether messages to a recipient have failed so often that a person is needed."""
    return recipient.tries >= TRIES_TOLD


def _last_hour(recipient: Recipient, now: float) -> list[float]:
    return sorted(at for at in recipient.sent_at if now - _HOUR < at <= now)
