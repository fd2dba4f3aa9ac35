"""Collect what `inboxd status` shows from the folders, the broker, the workers and the watcher's heartbeat."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

import redis

from inboxd.broker.connection import broker_url, make_client, translate_redis_errors, uses_embedded_server, without_password
from inboxd.broker.counters import FAILED, REFUSED, Counters, InboxCounts
from inboxd.broker.heartbeat import Heartbeat, InboxReport, read_heartbeat, seconds_since_sweep, sweep_deadline_seconds
from inboxd.broker.inbox_outages import read_inbox_outages
from inboxd.broker.installations import describe_installation, find_conflict
from inboxd.broker.server_checks import find_server_problems
from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.console.ping import ping_broker
from inboxd.console.systemd.install_paths import TARGET, system_paths, user_paths
from inboxd.console.times import format_local
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.bounded import run_on_mounts
from inboxd.fs.syscalls import Disk
from inboxd.logs.text import escape
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.other_app.task_faults import FaultKind, find_fault
from inboxd.messaging.queues import QUARANTINE_KEY, WORK_QUEUE, files_queue, host_queue
from inboxd.messaging.remote_control import ask_all
from inboxd.monitoring.file_counts import FileCounts, count_files
from inboxd.monitoring.stuck import find_stuck
from inboxd.notify.addresses import is_configured
from inboxd.notify.digest import is_failing
from inboxd.notify.state import NotifyState, load_state
from inboxd.service.clock_guard import describe_pause, load_record
from inboxd.stage.records import StageRecords

WORKER_ANSWER_SECONDS = 1.0
MOUNT_SECONDS = 3.0
"""Maximum time to count the files on a network or FUSE mount."""


@dataclass(frozen=True, slots=True)
class InboxStatus:
    """One inbox: its counts, or the ``problem`` that prevented counting; the watcher's report and the totals, None if unknown.

    ``outage`` is why nothing can be filed there; ``stuck`` has a sentence for each stuck file; ``root`` is the inbox's folder.
    """

    name: str
    counts: FileCounts | None
    problem: str = ""
    report: InboxReport | None = None
    totals: InboxCounts | None = None
    outage: str = ""
    stuck: tuple[str, ...] = ()
    root: bytes = b""

    @property
    def paused(self) -> str:
        """Why nothing is claimed or filed here at present, by the watcher or by Redis; "" if the inbox is not paused."""
        return self.outage or (self.report and self.report.outage) or ""

    @property
    def failed_today(self) -> int:
        """The number of files that failed, or were refused, today; 0 if it is unknown."""
        return self.totals.today.get(FAILED, 0) + self.totals.today.get(REFUSED, 0) if self.totals else 0

    @property
    def problem_or_outage(self) -> str:
        """What is wrong with the folders, from the first source that reports a problem; "" for nothing."""
        return self.problem or self.outage or (self.report and self.report.outage) or ""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of all inboxes and programs ``at`` a time in unix seconds; docs/operations.md explains the figures.

    ``broker_error`` is why Redis at ``broker`` is unavailable, or "". ``seconds_since_sweep`` is None if the record of the last
    sweep has expired. ``quarantined`` is the number of quarantined messages. ``unconsumed`` describes the queues without a
    worker while some worker answers. ``removed_inboxes`` are watched, but not in the settings. ``clock_problem`` is "" or why
    no file is deleted. ``start_command`` starts all programs, as services if they are installed. ``shared_names``: of several
    workers.
    """

    at: float
    inboxes: tuple[InboxStatus, ...]
    broker_error: str
    workers: int
    watcher: Heartbeat | None
    seconds_since_sweep: float | None = None
    is_sweep_overdue: bool = False
    quarantined: int = 0
    unconsumed: tuple[str, ...] = ()
    removed_inboxes: tuple[str, ...] = ()
    broker: str = ""
    clock_problem: str = ""
    server_problems: tuple[str, ...] = ()
    notify: NotifyState | None = None
    start_command: str = "inboxd up"
    is_installed: bool = False
    has_own_server: bool = False
    shared_names: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Return what needs attention, a sentence each."""
        found = [f"{inbox.name}: {inbox.problem_or_outage}" for inbox in self.inboxes if inbox.problem_or_outage]
        reports = ((inbox.name, inbox.report) for inbox in self.inboxes if inbox.report)
        found += [f"{name}: {problem}" for name, report in reports for problem in report.problems if not self.broker_error]
        found += [self.clock_problem] if self.clock_problem else []
        found += list(describe_notifier(self.notify))
        if self.broker_error:
            return [*found, f"the broker is unavailable, so workers and watcher can't be checked: {self.broker_error}"]
        found += [problem.replace("\n    ", "; ") for problem in self.server_problems if problem]
        if not self.workers:
            found.append("no worker answers: files are claimed, but not processed; start a worker")
        found += [f"no worker for {queue}" for queue in self.unconsumed]
        found += [
            f"several workers are called {name}: start each with a name of its own: -n NAME@%h" for name in self.shared_names
        ]
        if self.watcher is None:
            found.append("no watcher heartbeat: new files wait for the next sweep; start the watcher")
        else:
            unwatched = [inbox.name for inbox in self.inboxes if inbox.report is None]
            found += [
                f"{name}: the running watcher does not watch this inbox; reload the watcher (SIGHUP)" for name in unwatched
            ]
        found += [f"{name}: watched, but not in the settings; reload the watcher (SIGHUP)" for name in self.removed_inboxes]
        if self.is_sweep_overdue:
            found.append("no sweep has run for too long: is beat running? Missed files and stale parcels wait for a sweep")
        return [*found, *(sentence for inbox in self.inboxes for sentence in inbox.stuck)]


@dataclass(frozen=True, slots=True)
class _RedisState:
    """What was read from Redis."""

    workers: int = 0
    unconsumed: tuple[str, ...] = ()
    watcher: Heartbeat | None = None
    seconds_since_sweep: float | None = None
    is_sweep_overdue: bool = False
    quarantined: int = 0
    server_problems: tuple[str, ...] = ()
    totals: Mapping[str, InboxCounts] = field(default_factory=dict)
    outages: Mapping[str, str] = field(default_factory=dict)
    shared_names: tuple[str, ...] = ()

    def report(self, name: str) -> InboxReport | None:
        return self.watcher.inboxes.get(name) if self.watcher else None


def take_snapshot(
    settings: Settings, now: float, file: PurePath, count: Callable[[Disk, Inbox], FileCounts] = count_files
) -> Status:
    """Read the whole state once, in a second or two, or in four socket timeouts if Redis hangs.

    ``file`` is the settings file; ``count`` counts an inbox's files. Raises SettingsError for an invalid redis.url.
    """
    state, broker_error = _RedisState(), ping_broker(settings).error
    if not broker_error:
        try:
            state = _read_redis(settings, now, file)
        except BrokerUnavailable as error:
            broker_error = str(error)
    inboxes = tuple(_inspect_inbox(settings, name, state, count) for name in settings.inbox)
    removed = tuple(name for name in (state.watcher.inboxes if state.watcher else ()) if name not in settings.inbox)
    return Status(
        now, inboxes, broker_error, state.workers, state.watcher, state.seconds_since_sweep, state.is_sweep_overdue,
        state.quarantined, state.unconsumed, removed, without_password(broker_url(settings)),
        describe_pause(load_record(Disk(), settings.state_dir)), state.server_problems, _load_notify_state(settings),
        *_how_to_start(file), uses_embedded_server(settings), state.shared_names,
    )  # fmt: skip


def _load_notify_state(settings: Settings) -> NotifyState | None:
    """Return what was told to whom; None if nobody is to be told, or if that is not known here."""
    if not is_configured(settings, os.environ):
        return None
    try:
        return load_state(Disk(), settings.state_dir)
    except (OSError, ValueError):  # not permitted, or damaged: beat begins anew, and logs that
        return None


def describe_notifier(state: NotifyState | None) -> Iterator[str]:
    """Yield a sentence for each recipient that can't be told anything, and for each inbox of which nothing can be told."""
    for recipient in state.recipients.values() if state else ():
        if is_failing(recipient):
            since = format_local(recipient.failing_since)
            yield f"notify: no message reaches {recipient.label} since {since}: {recipient.error}; try: inboxd notify test"
    for problem in state.problems if state else ():
        yield f"notify: beat can't read {problem}; if it runs as a service: sudo inboxd systemd sync"


def _how_to_start(file: PurePath) -> tuple[str, bool]:
    """Return the command that starts all programs, and whether the settings file is that of installed services."""
    if file.parent == system_paths().config:
        return f"sudo systemctl start {TARGET}", True
    if file.parent == user_paths().config:
        return f"systemctl --user start {TARGET}", True
    return "inboxd up", False


def _read_redis(settings: Settings, now: float, file: PurePath) -> _RedisState:
    """Read everything that Redis and the workers report. Raises BrokerUnavailable."""
    worker_queues = _list_worker_queues(settings)
    with make_client(settings) as client:
        watcher, swept_seconds = _read_heartbeat(client, settings.host), seconds_since_sweep(client, settings)
        with translate_redis_errors():
            # sweeps that wait in the queue: beat is running, and all workers are busy
            queued_sweeps, quarantined = client.llen(host_queue(settings.host)), client.llen(QUARANTINE_KEY)
        is_long_up = watcher is not None and now - watcher.started_at > 2 * sweep_deadline_seconds(settings)
        is_overdue = swept_seconds is None and bool(worker_queues) and is_long_up and not queued_sweeps
        totals = Counters(client, settings.host).read(settings.inbox)
        outages = read_inbox_outages(client, settings.host, settings.inbox)
        server_problems = (
            find_conflict(client, describe_installation(settings, file)),
            *map(str, find_server_problems(client, settings)),
            *_find_task_faults(client, settings),
            *_find_stage_fault(client, settings),
        )
    unconsumed = tuple(_find_unconsumed(settings, worker_queues))
    names = Counter(escape(name) for name, _ in worker_queues)
    shared = tuple(sorted(name for name, workers in names.items() if workers > 1))
    return _RedisState(
        len(worker_queues), unconsumed, watcher, swept_seconds, is_overdue, int(quarantined), server_problems, totals, outages,
        shared,
    )  # fmt: skip


def _find_task_faults(client: redis.Redis, settings: Settings) -> Iterator[str]:
    """Yield a sentence for each task of another app that gets no files, as sweeps have found it. Raises BrokerUnavailable."""
    for name, inbox in settings.inbox.items():
        if not inbox.task or not (fault := find_fault(client, settings.host, name, inbox.queue)):
            continue
        if fault.kind is FaultKind.UNKNOWN:
            lack = f"the worker {fault.where} has no task {inbox.task}"
            yield f"{name}: {lack}; the files wait until its app has one of this name"
        else:
            files = "1 file waits" if fault.files == 1 else f"{fault.files} files wait"
            yield f"{name}: no worker consumes the queue {inbox.queue}, in which {files}"


def _find_stage_fault(client: redis.Redis, settings: Settings) -> Iterator[str]:
    """Yield a sentence if the store of [stage] had a fault within the last minute. Raises BrokerUnavailable."""
    if not settings.stage.url:
        return
    records = StageRecords(client, settings.host)
    if fault := records.read_fault():
        yield f"stage: {fault}; workers that see the folders take large files, or these wait"
    if fault := records.read_fault(of_readers=True):
        yield f"stage: the worker on {fault}; others take large files, or these wait"


def _inspect_inbox(
    settings: Settings, name: str, state: _RedisState, count: Callable[[Disk, Inbox], FileCounts]
) -> InboxStatus:
    inbox, report, totals = settings.inbox[name], state.report(name), state.totals.get(name)
    outage = state.outages.get(name, "")
    try:
        counts = run_on_mounts(Disk(), inbox.root, lambda: count(Disk(), inbox), MOUNT_SECONDS)
    except (FolderUnavailable, OSError) as error:
        return InboxStatus(name, None, str(error), report, totals, outage, root=bytes(inbox.root))
    slots = settings.work.concurrency or os.cpu_count() or 1
    stuck = tuple(find_stuck(inbox, counts, report, slots)) if not outage else ()
    return InboxStatus(name, counts, "", report, totals, outage, stuck, bytes(inbox.root))


def _list_worker_queues(settings: Settings) -> list[tuple[str, set[str]]]:
    """Return each worker's name and the queues that it consumes, for the workers that answer. Raises BrokerUnavailable."""
    with make_app(settings) as app:
        answers = ask_all(app, "active_queues", WORKER_ANSWER_SECONDS)
    return [(worker, {queue["name"] for queue in queues or ()}) for worker, queues in answers]


def _find_unconsumed(settings: Settings, worker_queues: list[tuple[str, set[str]]]) -> list[str]:
    """Return a description of each queue that no worker consumes; [] without workers, or while one of them reconnects."""
    if not worker_queues or not all(queues for _, queues in worker_queues):
        return []
    host = settings.host
    descriptions = {
        WORK_QUEUE: f"small files (queue {WORK_QUEUE})",
        files_queue(host): f"large files (queue {files_queue(host)}): they are not processed",
        host_queue(host): f"callbacks and sweeps (queue {host_queue(host)}): finished files are not moved to done/ or failed/",
    }
    consumed = set().union(*(queues for _, queues in worker_queues))
    return [description for queue, description in descriptions.items() if queue not in consumed]


def _read_heartbeat(client: redis.Redis, host: str) -> Heartbeat | None:
    """Return this host's heartbeat; None if it has expired or another version wrote it. Raises BrokerUnavailable."""
    try:
        return read_heartbeat(client, host)
    except (ValueError, KeyError, TypeError):
        return None
