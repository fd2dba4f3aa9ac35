"""A status as a table for people, and as JSON for programs."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from console.status import InboxState, Status
from spool.notes import plain

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def render(status: Status) -> RenderableType:
    """Return the inboxes as a table, and below it the programs and what needs a person, a line each."""
    table = Table("inbox", box=None, pad_edge=False)
    for heading in ("waiting", "in flight", "done", "failed", "oldest waiting"):
        table.add_column(heading, justify="right")
    table.add_column("watched by")
    for inbox in status.inboxes:
        table.add_row(*map(Text, (inbox.name, *_counts(inbox), _watching(inbox))))
    programs = [Text(line) for line in _programs(status)]
    troubles = [Text(plain(f"! {trouble}"), style="bold red") for trouble in status.troubles()]
    return Group(table, Text(), *programs, *troubles)


def _counts(inbox: InboxState) -> list[str]:
    counts = inbox.counts
    if counts is None:
        return ["?"] * 5
    numbers = (counts.waiting, counts.in_flight, counts.done, counts.failed)
    return [*map(str, numbers), age(counts.oldest_waiting_seconds)]


def _watching(inbox: InboxState) -> str:
    if inbox.watched is None:
        return "-"
    why = inbox.watched.why
    return plain(f"{inbox.watched.mode} ({why})" if why else inbox.watched.mode)


def _programs(status: Status) -> list[str]:
    seen = f"seen {age(max(0.0, status.at - status.watcher.at))} ago" if status.watcher else "not seen"
    return [
        f"broker   {'away' if status.away else 'ok'}",
        f"workers  {'?' if status.away else status.workers}",
        f"watcher  {'?' if status.away else seen}",
    ]


def age(seconds: float | None) -> str:
    """Return an age in its two largest units: "45 s", "3 min 20 s", "2 d 4 h"; "-" for none."""
    if seconds is None:
        return "-"
    left = int(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join([*parts, f"{left} s"][:2])


def as_json(status: Status) -> dict[str, Any]:
    """Return the status in JSON's types. The keys are an interface: some may be added, none renamed."""
    watcher = status.watcher
    return {
        "at": status.at,
        "troubles": status.troubles(),
        "inboxes": {inbox.name: _inbox_as_json(inbox) for inbox in status.inboxes},
        "broker": {"answers": not status.away, "why": status.away or None},
        "workers": None if status.away else status.workers,
        "watcher": None if watcher is None else {"at": watcher.at},
    }


def _inbox_as_json(inbox: InboxState) -> dict[str, Any]:
    counts, watched = inbox.counts, inbox.watched
    return {
        "waiting": counts and counts.waiting,
        "in_flight": counts and counts.in_flight,
        "done": counts and counts.done,
        "failed": counts and counts.failed,
        "oldest_waiting_seconds": counts and counts.oldest_waiting_seconds,
        "watching": watched and watched.mode,
        "watching_why": watched and watched.why,
        "problem": inbox.problem or (watched and watched.trouble) or None,
    }
