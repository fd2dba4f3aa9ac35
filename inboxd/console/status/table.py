"""Show a status as a table for people, or as JSON for programs."""

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from inboxd.broker.counters import DONE, FAILED, REFUSED
from inboxd.console.status.next_step import find_next_step
from inboxd.console.status.snapshot import InboxStatus, Status
from inboxd.logs.text import escape, format_age
from inboxd.messaging.queues import QUARANTINE_KEY
from inboxd.monitoring.file_counts import Untaken
from inboxd.notify.digest import is_failing
from inboxd.notify.state import NotifyState

PIPE_COLUMNS = 1000
"""Width without a terminal, in columns: no line is wrapped in a mail or a monitor."""

WIDE_COLUMNS = 76
"""Width at which the table of the inboxes has room for all its columns."""
HEADINGS = (
    "waiting", "in\nflight", "done", "done\ntoday", "failed", "failed\ntoday", "oldest\nwaiting", "oldest\nclaimed",
)  # fmt: skip


def print_status(status: Status) -> None:
    """Print a status for people."""
    console = Console()
    console = console if console.is_terminal else Console(width=PIPE_COLUMNS)
    console.print(render(status, console.width), soft_wrap=True)


def render(status: Status, columns: int) -> RenderableType:
    """Return a table of the inboxes, and below it the programs, what needs attention, and what to do next, a line each.

    Below WIDE_COLUMNS the table has no ages, which `status` tells of a stuck file in words.
    """
    headings = HEADINGS if columns >= WIDE_COLUMNS else HEADINGS[:-2]
    table = Table(box=None, pad_edge=False)
    table.add_column("inbox", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for inbox in status.inboxes:
        table.add_row(Text(inbox.name), *map(Text, _format_counts(inbox)[: len(headings)]))
    is_known = not status.broker_error
    modes = [Text(line) for inbox in status.inboxes for line in _describe_watching(inbox, is_known=is_known)]
    programs = [Text(line) for line in _describe_programs(status)]
    problems = [Text(escape(f"! {problem}"), style="bold red") for problem in status.problems()]
    step = find_next_step(status)
    last = [Text(), Text(escape(f"next: {step.command}  # {step.why}"), style="bold")] if step else []
    return Group(table, Text(), *modes, *programs, *problems, *last)


def _format_counts(inbox: InboxStatus) -> list[str]:
    counts = inbox.counts
    if counts is None:
        return ["?"] * 8
    done, failed = _count_today(inbox)
    numbers = (counts.waiting, counts.in_flight, counts.done, _or_dash(done), counts.failed, _or_dash(failed))
    return [*map(str, numbers), format_age(counts.oldest_waiting_seconds), format_age(counts.oldest_claimed_seconds)]


def _count_today(inbox: InboxStatus) -> tuple[int | None, int | None]:
    """Return the numbers of files done and failed (or refused) today by Redis's counters; None if Redis is unavailable."""
    if inbox.totals is None:
        return None, None
    today = inbox.totals.today
    return today.get(DONE, 0), today.get(FAILED, 0) + today.get(REFUSED, 0)


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _describe_watching(inbox: InboxStatus, *, is_known: bool) -> list[str]:
    """Return how an inbox is watched, if that is known, and what nobody takes from it, a line each."""
    counts = inbox.counts
    untaken = [
        *(_describe_untaken("ignored", counts.ignored) if counts else ()),
        *(_describe_untaken("not taken", counts.stray) if counts else ()),
        *(_describe_untaken("in failed/ by hand", counts.without_note) if counts else ()),
        *([f"{inbox.totals.missing} files were gone from claimed/ before they could be filed"]
          if inbox.totals and inbox.totals.missing else []),
    ]  # fmt: skip
    mode, *more = _describe_mode(inbox)
    first = [escape(f"{inbox.name} {mode}")] if is_known else []
    return [*first, *(escape(f"{inbox.name}: {line}") for line in [*(more if is_known else ()), *untaken])]


def _describe_mode(inbox: InboxStatus) -> list[str]:
    if inbox.report is None:
        return ["is not watched"]
    reason = f" ({inbox.report.mode_reason})" if inbox.report.mode_reason else ""
    paused = f"; it is paused: {inbox.paused}" if inbox.paused else ""
    return [f"is watched by {inbox.report.mode}{reason}{paused}", *inbox.report.sub_mounts]


def _describe_untaken(state: str, untaken: Untaken) -> list[str]:
    if not untaken.files:
        return []
    files = "1 file is" if untaken.files == 1 else f"{untaken.files} files are"
    return [
        f"{files} {state}, the oldest for {format_age(untaken.oldest_seconds)}: {escape(untaken.example)}: {untaken.reason}"
    ]


def _describe_programs(status: Status) -> list[str]:
    age = f"heartbeat {format_age(max(0.0, status.at - status.watcher.at))} ago" if status.watcher else "no heartbeat"
    return [
        escape(f"broker   {'unavailable' if status.broker_error else 'ok'} ({status.broker})"),
        f"workers  {'?' if status.broker_error else status.workers}",
        f"watcher  {'?' if status.broker_error else age}",
        f"beat     {'?' if status.broker_error else _describe_sweep(status)}",
        *([escape(f"notify   {_describe_notify(status.notify)}")] if status.notify and status.notify.recipients else []),
        *([f"{status.quarantined} messages quarantined: LRANGE {QUARANTINE_KEY} 0 0 shows one"] if status.quarantined else []),
    ]


def _describe_notify(state: NotifyState) -> str:
    failing = [recipient.label for recipient in state.recipients.values() if is_failing(recipient)]
    return f"failing: {', '.join(failing)}" if failing else f"ok ({', '.join(one.label for one in state.recipients.values())})"


def _describe_sweep(status: Status) -> str:
    return "no recent sweep" if status.seconds_since_sweep is None else f"swept {format_age(status.seconds_since_sweep)} ago"


def to_json(status: Status) -> dict[str, Any]:
    """Return the status as a JSON object. The keys are a public interface: keys may be added, none renamed."""
    watcher, step = status.watcher, find_next_step(status)
    return {
        "at": status.at,
        "problems": status.problems(),
        "inboxes": {inbox.name: _inbox_as_json(inbox) for inbox in status.inboxes},
        "broker": {"answers": not status.broker_error, "why": status.broker_error or None, "url": status.broker},
        "workers": None if status.broker_error else status.workers,
        "watcher": None if watcher is None else {"at": watcher.at, "since": watcher.started_at},
        "beat": None if status.broker_error else {"swept_seconds_ago": status.seconds_since_sweep},
        "quarantined": None if status.broker_error else status.quarantined,
        "notify": _notify_as_json(status.notify),
        "next": step and {"command": step.command, "why": step.why},
    }


def _notify_as_json(state: NotifyState | None) -> list[dict[str, Any]] | None:
    """Return each recipient with what may be shown of it; None if nobody is told anything."""
    if state is None:
        return None
    return [
        {
            "to": recipient.label,
            "failing_since": recipient.failing_since or None,
            "error": recipient.error or None,
            "tries": recipient.tries,
            "last_sent": max(recipient.sent_at, default=None),
        }
        for recipient in state.recipients.values()
    ]


def _inbox_as_json(inbox: InboxStatus) -> dict[str, Any]:
    counts, report = inbox.counts, inbox.report
    done_today, failed_today = _count_today(inbox)
    return {
        "waiting": counts and counts.waiting,
        "in_flight": counts and counts.in_flight,
        "done": counts and counts.done,
        "failed": counts and counts.failed,
        "done_today": done_today,
        "failed_today": failed_today,
        "oldest_waiting_seconds": counts and counts.oldest_waiting_seconds,
        "oldest_claimed_seconds": counts and counts.oldest_claimed_seconds,
        "watching": report and report.mode,
        "watching_why": report and report.mode_reason,
        "ignored": _untaken_as_json(counts.ignored if counts else None),
        "stray": _untaken_as_json(counts.stray if counts else None),
        "without_note": _untaken_as_json(counts.without_note if counts else None),
        "missing": inbox.totals.missing if inbox.totals else None,
        "sub_mounts": list(report.sub_mounts) if report else None,
        "problem": inbox.problem_or_outage or None,
        "paused": inbox.paused or None,
        "stuck": list(inbox.stuck),
        "oldest_waiting_file": _path(counts.oldest_waiting if counts else None),
        "oldest_claimed_file": _path(counts.oldest_claimed if counts else None),
    }


def _untaken_as_json(untaken: Untaken | None) -> dict[str, Any] | None:
    if untaken is None:
        return None
    example = escape(untaken.example) or None
    reason = untaken.reason or None
    return {"files": untaken.files, "oldest_seconds": untaken.oldest_seconds, "reason": reason, "example": example}


def _path(path: bytes | None) -> str | None:
    return None if path is None else escape(path)
