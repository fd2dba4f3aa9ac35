"""The first page: the inboxes with their counts and their day, and what needs attention."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from inboxd.broker.counters import DONE, FAILED, REFUSED
from inboxd.console.status.snapshot import InboxStatus, Status
from inboxd.console.web.chart import Chart, make_chart
from inboxd.console.web.poller import State
from inboxd.console.web.site import Site
from inboxd.logs.text import format_age


@dataclass(frozen=True, slots=True)
class InboxRow:
    """One inbox as the page shows it; numbers that are not known are None. ``state`` is its health in words."""

    name: str
    state: str
    is_well: bool
    waiting: int | None
    in_flight: int | None
    done_today: int | None
    done: int | None
    failed: int
    failed_today: int | None
    oldest_waiting: str
    oldest_claimed: str
    chart: Chart


def overview(site: Site, request: Request) -> Response:
    """Show all inboxes and programs."""
    state = site.poller.latest
    rows = [make_row(inbox, state, site.index.latest.counts) for inbox in state.status.inboxes] if state.status else []
    problems = [*state.status.problems(), *([state.error] if state.error else [])] if state.status else []
    programs = describe_programs(state.status) if state.status else []
    return site.render(
        request, "overview.html", rows=rows, problems=problems, programs=programs, at=state.status and state.status.at,
        failed=site.index.latest, error=state.error,
    )  # fmt: skip


def make_row(inbox: InboxStatus, state: State, failed: Mapping[str, int]) -> InboxRow:
    """Return an inbox's row."""
    counts, totals = inbox.counts, inbox.totals
    today = totals.today if totals else None
    at = state.status.at if state.status else 0.0
    problem = inbox.problem_or_outage or next(iter(inbox.stuck), "")
    return InboxRow(
        inbox.name,
        *describe_health(inbox, problem),
        counts.waiting if counts else None,
        counts.in_flight if counts else None,
        today.get(DONE, 0) if today is not None else None,
        totals.outcomes.get(DONE, 0) if totals else None,
        failed.get(inbox.name, 0),
        today.get(FAILED, 0) + today.get(REFUSED, 0) if today is not None else None,
        format_age(counts.oldest_waiting_seconds if counts else None),
        format_age(counts.oldest_claimed_seconds if counts else None),
        make_chart(state.hours.get(inbox.name, {}), at),
    )


def describe_health(inbox: InboxStatus, problem: str) -> tuple[str, bool]:
    """Return an inbox's health in words, and whether it is well."""
    if inbox.problem_or_outage:
        return f"paused: {problem}", False
    if inbox.stuck:
        return f"stuck: {problem}", False
    if inbox.report is None:
        return "not watched", False
    return ("busy: more files are complete than can be claimed at once" if inbox.report.is_busy else "well"), True


def describe_programs(status: Status) -> list[tuple[str, str]]:
    """Return each program and its state in words."""
    if status.broker_error:
        return [("Redis", "unavailable"), ("Watcher", "unknown"), ("Workers", "unknown"), ("Sweeps", "unknown")]
    age = status.watcher and format_age(max(0.0, status.at - status.watcher.at))
    swept = status.seconds_since_sweep
    return [
        ("Redis", "answers"),
        ("Watcher", f"heartbeat {age} before" if age else "no heartbeat"),
        ("Workers", f"{status.workers} running" if status.workers else "none answers"),
        ("Sweeps", "no recent one" if swept is None else f"the last one {format_age(swept)} before"),
    ]
