"""The only module that imports Apprise, an optional dependency; it takes a second, and so is done in programs of their own."""

import logging
from typing import Self

import apprise

_LOG_CHARS_MAX = 20_000


def find_problem(url: str) -> str:
    """Return why Apprise can't use a URL, "" if it can; the text may contain secrets."""
    with _Log() as log:
        plugin = apprise.Apprise.instantiate(url)
    return "" if plugin else log.last() or "no service has such a URL"


def send(url: str, title: str, body: str, kind: str) -> str:
    """Send a message in plain text; return "", or why that failed: a text that may contain secrets."""
    with _Log() as log:
        plugin = apprise.Apprise.instantiate(url)
        if plugin is None:
            return log.last() or "no service has such a URL"
        plugin.notify_format = apprise.NotifyFormat.TEXT  # no markup: mails are text/plain, chats do not interpret it
        if "overflow=" not in url:
            plugin.overflow_mode = apprise.OverflowMode.TRUNCATE  # the counts come first; else one message becomes many
        try:
            is_sent = plugin.notify(
                body=body, title=title, notify_type=apprise.NotifyType(kind), body_format=apprise.NotifyFormat.TEXT
            )
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            return f"{type(error).__name__}: {error}"
    return "" if is_sent else log.last() or "the service did not accept the message"


class _Log(logging.Handler):
    """Collects what Apprise logs within a with block: the causes of errors are logged, not raised."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._causes: list[str] = []
        self._warnings: list[str] = []

    def __enter__(self) -> Self:
        logger = logging.getLogger("apprise")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(self)
        return self

    def __exit__(self, *_raised: object) -> None:
        logging.getLogger("apprise").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep warnings and causes; other lines have the message, or the URL."""
        text = record.getMessage()[:_LOG_CHARS_MAX]
        if record.levelno >= logging.WARNING:
            self._warnings.append(text)
        elif "Exception" in text:
            self._causes.append(text.partition(": ")[2])

    def last(self) -> str:
        """Return the last warning with its cause."""
        return ": ".join(texts[-1].rstrip(".") for texts in (self._warnings, self._causes) if texts)
