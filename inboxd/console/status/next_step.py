"""Choose the one command that helps most in the state that `inboxd status` has found. Pure."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from inboxd.console.paths import quote_for_shell
from inboxd.console.status.snapshot import InboxStatus, Status
from inboxd.logs.text import escape
from inboxd.monitoring.file_counts import FileCounts
from inboxd.spool import layout

IGNORED_SECONDS = 600.0
"""Minimum age of an ignored file before it is worth a look: a temporary name normally lasts as long as the upload."""


class NextStep(NamedTuple):
    """A command to type, and why."""

    command: str
    why: str


def find_next_step(status: Status) -> NextStep | None:
    """Return the most useful command; None if there is nothing to do."""
    return next(_steps(status), None)


def _steps(status: Status) -> Iterator[NextStep]:
    """Yield the steps, the most urgent first: programs, folders, settings, stuck files, failed files, ignored files."""
    yield from _program_steps(status)
    if any(inbox.problem_or_outage or (inbox.report and inbox.report.problems) for inbox in status.inboxes):
        yield NextStep("inboxd check", "what is wrong with the folders, and the remedy")
    if any(status.server_problems) or status.clock_problem or status.unconsumed or status.removed_inboxes:
        yield NextStep("inboxd check", "compare the settings with what runs")
    for inbox in status.inboxes:
        yield from _stuck_steps(inbox)
    yield from _failed_steps(status)
    for inbox in status.inboxes:
        if inbox.counts and inbox.root and (inbox.counts.ignored.oldest_seconds or 0.0) >= IGNORED_SECONDS:
            path = os.path.join(inbox.root, layout.INBOX, inbox.counts.ignored.example)  # noqa: PTH118 - bytes
            yield NextStep(f"inboxd explain {quote_for_shell(path)}", "why this file is ignored")


def _program_steps(status: Status) -> Iterator[NextStep]:
    if status.broker_error:
        if status.has_own_server:
            yield NextStep(status.start_command, "start the programs: no server runs")
        yield NextStep("inboxd check", "why Redis can't be used")
    elif not status.workers and status.watcher is None:
        yield NextStep(status.start_command, "start the programs")
    elif not status.workers:
        yield NextStep(status.start_command if status.is_installed else "celery -A inboxd worker", "start a worker")
    elif status.watcher is None:
        yield NextStep(status.start_command if status.is_installed else "inboxd watch", "start the watcher")
    elif status.is_sweep_overdue:
        yield NextStep(status.start_command if status.is_installed else "celery -A inboxd beat", "start beat")


def _stuck_steps(inbox: InboxStatus) -> Iterator[NextStep]:
    if inbox.stuck and inbox.counts and inbox.root:
        for path in _oldest_paths(inbox.counts):
            if escape(path) in inbox.stuck[0]:
                whole = os.path.join(inbox.root, path)  # noqa: PTH118 - bytes
                yield NextStep(f"inboxd explain {quote_for_shell(whole)}", "why this file is stuck")


def _oldest_paths(counts: FileCounts) -> list[bytes]:
    """Return the oldest waiting and claimed files' paths below the root, as far as they are known."""
    waiting = [layout.INBOX + b"/" + counts.oldest_waiting] if counts.oldest_waiting else []
    return [*waiting, *([counts.oldest_claimed] if counts.oldest_claimed else [])]


def _failed_steps(status: Status) -> Iterator[NextStep]:
    """Yield the retry of the inbox in which most files failed today and still lie in failed/."""
    failed = [(min(inbox.failed_today, inbox.counts.failed), inbox.name) for inbox in status.inboxes if inbox.counts]
    count, name = max(failed, default=(0, ""))
    if count:
        files = "1 file" if count == 1 else f"{count} files"
        yield NextStep(f"inboxd retry --inbox {name}", f"{files} failed today: correct the cause first")
