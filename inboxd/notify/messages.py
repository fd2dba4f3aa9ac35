"""Write a message: plain text, in which names that droppers chose are no link, mention, markup or line of their own. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inboxd.logs.text import escape
from inboxd.notify.digest import FAILED, PAUSED, RECOVERED, STUCK, Failure, News

FILES_MAX = 10
"""How many files a message names."""
INBOXES_MAX = 10
"""Of how many inboxes a message tells details."""
TEXT_CHARS_MAX = 160
"""Maximum length of a path, and of a reason."""

_MARKS = str.maketrans({"<": "\u2039", ">": "\u203a", "`": "'", "|": "\u00a6"})
_MENTION = re.compile(r"@(?=everyone|here|channel|all\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its title, one line; its text; and ``kind``, "failure", "warning" or "success", for its colour."""

    title: str
    body: str
    kind: str


def quote(text: bytes | str) -> str:
    """Return a text of others as one short line in which mail readers and chats find no markup, link or mention."""
    line = escape(text).translate(_MARKS).replace("://", "[:]//").replace("](", "] (")
    line = _MENTION.sub("@ ", line)
    return line if len(line) <= TEXT_CHARS_MAX else f"{line[: TEXT_CHARS_MAX - 1]}…"


def files_of(news: Sequence[News]) -> int:
    """Return how many files of each inbox a message of these news names."""
    inboxes = len({item.inbox for item in news if item.kind == FAILED})
    return max(FILES_MAX // max(inboxes, 1), 1)


def write_message(host: str, news: Sequence[News], failures: Mapping[str, Sequence[Failure]]) -> Message:
    """Return the message that tells these news; ``failures`` are the newest of each inbox, at most ``files_of``."""
    told = list(dict.fromkeys(item.inbox for item in news))
    shown = told[:INBOXES_MAX]
    lines = [line for name in shown for line in (*_section(name, news, failures.get(name, ())), "")]
    if further := told[INBOXES_MAX:]:
        files = sum(item.files for item in news if item.inbox in further)
        lines += [f"{len(further)} further inboxes have news, and {files} failed files: inboxd status", ""]
    lines += [f"inboxd on {escape(host)}"]
    return Message(_title(host, news), "\n".join(lines), _kind(news))


def write_test(host: str) -> Message:
    """Return the message of `inboxd notify test`."""
    body = f"This is a test: messages of inboxd on {escape(host)} arrive here.\nNothing has happened."
    return Message(f"inboxd on {escape(host)}: a test", body, "success")


def _title(host: str, news: Sequence[News]) -> str:
    """Return one line that has names of inboxes and numbers only."""
    files = sum(item.files for item in news)
    words = [_count(files, "file") + " failed"] if files else []
    for kind in (PAUSED, STUCK, RECOVERED):
        names = [item.inbox for item in news if item.kind == kind]
        words += [f"{names[0] if len(names) == 1 else _count(len(names), 'inbox')} {kind}"] if names else []
    inboxes = {item.inbox for item in news if item.kind == FAILED}
    where = f" in {next(iter(inboxes))}" if len(inboxes) == 1 else ""
    words[0] += where if files else ""
    return f"inboxd on {escape(host)}: {', '.join(words)}"


def _kind(news: Sequence[News]) -> str:
    kinds = {item.kind for item in news}
    if kinds & {PAUSED, STUCK}:
        return "failure"
    return "warning" if FAILED in kinds else "success"


def _section(name: str, news: Sequence[News], failures: Sequence[Failure]) -> list[str]:
    lines = []
    for item in news:
        if item.inbox != name:
            continue
        match item.kind:
            case "failed":
                lines += _describe_failed(item, failures)
            case "paused":
                lines += [f"Inbox {name} is paused: {quote(item.text)}", "  Files stay where they are until that is corrected."]
            case "stuck":
                lines += [f"Inbox {name} is stuck: {quote(item.text)}", "  To see why: inboxd explain PATH"]
            case _:
                lines += [f"Inbox {name}: {quote(item.text)}"]
    return lines


def _describe_failed(item: News, failures: Sequence[Failure]) -> list[str]:
    more = item.files - len(failures)
    listed = [f"  {quote(failure.path)}: {quote(failure.reason)}" for failure in failures]
    return [
        f"Inbox {item.inbox}: {_count(item.files, 'file')} failed{', the newest:' if more > 0 and failures else ''}",
        *listed,
        *([f"  … and {more} more in failed/"] if more > 0 and failures else []),
        f"  To see why: inboxd explain PATH; once corrected: inboxd retry --inbox {item.inbox}",
    ]


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("x") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
