"""Asks another app's workers why an inbox's files wait; records what the workers lack, and logs when that begins and ends."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

from inboxd.broker.connection import translate_redis_errors
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.other_app.task_faults import FaultKind, TaskFault, delete_fault, read_fault, record_fault
from inboxd.messaging.other_app.workers import OtherWorkers, ask_workers
from inboxd.spool.layout import created_at
from inboxd.tasks.process_state.context import WorkerContext

ASKED_KEY = "inboxd:task_asked:"
ASK_SECONDS = 60
"""How often the app's workers are asked while files wait; each time takes a second."""
BUSY_SECONDS = 3.0
"""How long a worker may take to answer before a fault is recorded, in seconds: it may be busy."""
WAITING_SECONDS = 10.0
"""Minimum time that a file is in the queue before the app's workers are asked who consumes the queue, in seconds."""
SILENT_SECONDS = 300.0
"""How long a worker that has taken files may be silent, in seconds: one with the pool `solo` answers only between two tasks."""

_log = get_logger(__name__)


class TaskNews(Enum):
    """What the workers have said of the task."""

    NONE = auto()
    UNKNOWN = auto()  # none of them has it
    KNOWN_AGAIN = auto()  # none of them had it, and now one has: what was discarded is to be sent again


class TaskFaultFinder:
    """Looks for faults of one inbox's task. Methods raise BrokerUnavailable."""

    def __init__(self, context: WorkerContext, inbox: Inbox, clock: Callable[[], float] = time.time) -> None:
        """Prepare a look; ``clock`` is in unix seconds."""
        self._client = context.client
        self._settings = context.settings
        self._host = context.host
        self._inbox = inbox
        self._clock = clock
        self._log = _log.bind(inbox=inbox.name, task=inbox.task)

    def look(self, queued: list[str], unanswered: list[str], *, has_taken: bool) -> TaskNews:
        """Ask the app's workers, if that is due, why parcels wait in the queue, or have left it and are not answered.

        ``has_taken``: a worker has taken files, and works on them or has died.
        """
        unknown, unconsumed = (self._read(kind) for kind in (FaultKind.UNKNOWN, FaultKind.UNCONSUMED))
        if not queued and unconsumed:
            self._end(unconsumed)
            unconsumed = None
        is_long = any(self._clock() - created_at(parcel) >= WAITING_SECONDS for parcel in queued)
        if not (unanswered or is_long or unknown) or not self._is_due(is_pressing=bool(unknown)):
            return TaskNews.NONE
        if (workers := self._ask(unknown, unconsumed, is_long=is_long)) is None:
            return TaskNews.NONE
        if is_long or workers.consuming:
            self._judge_queue(workers, unconsumed, len(queued), has_taken=has_taken)
        return self._judge_task(workers, unknown, len(unanswered))

    def end_all(self) -> None:
        """End each fault: no file is left that could wait."""
        for kind in FaultKind:
            if fault := self._read(kind):
                self._end(fault)

    def _read(self, kind: FaultKind) -> TaskFault | None:
        return read_fault(self._client, self._host, self._inbox.name, kind)

    def _is_due(self, *, is_pressing: bool) -> bool:
        key = f"{ASKED_KEY}{self._host}:{self._inbox.name}"
        with translate_redis_errors():
            return bool(self._client.set(key, "", nx=True, ex=ASK_SECONDS)) or is_pressing

    def _ask(self, unknown: TaskFault | None, unconsumed: TaskFault | None, *, is_long: bool) -> OtherWorkers | None:
        """Return what the workers say; None if the rights do not suffice to ask. One that has yet to answer may be busy."""
        with contextlib.suppress(BrokerUnavailable):
            workers = ask_workers(self._settings, self._inbox)
            is_news = workers.is_unknown and not unknown
            is_news |= is_long and not workers.consuming and not (unconsumed and unconsumed.lines)
            return ask_workers(self._settings, self._inbox, BUSY_SECONDS) if is_news else workers
        return None

    def _judge_queue(self, workers: OtherWorkers, fault: TaskFault | None, files: int, *, has_taken: bool) -> None:
        if workers.consuming:
            if fault:
                self._end(fault)
            return
        now, queue = self._clock(), self._inbox.queue
        found = TaskFault(FaultKind.UNCONSUMED, queue, files, now)
        if fault and fault.where == queue:
            found = replace(fault, files=files)
        if not found.lines and (not has_taken or now - found.since >= SILENT_SECONDS):
            found = replace(found, lines=1)
            remedy = f"start the app's worker with -Q {queue}, on the Redis of redis.url; or correct queue; the files wait"
            self._log.warning(events.QUEUE_UNCONSUMED, queue=queue, files=files, remedy=remedy)
        record_fault(self._client, self._host, self._inbox.name, found)

    def _judge_task(self, workers: OtherWorkers, fault: TaskFault | None, files: int) -> TaskNews:
        if workers.is_unknown and files:
            worker, now = min(workers.ignorant), self._clock()
            found = fault or TaskFault(FaultKind.UNKNOWN, worker, files, now)
            found = replace(found, where=worker, files=files)
            if found.is_line_due(now):
                found = replace(found, lines=found.lines + 1)
                remedy = "correct the task's name, or let its app import the module; the files wait"
                self._log.error(events.TASK_UNKNOWN, worker=worker, files=files, remedy=remedy)
            record_fault(self._client, self._host, self._inbox.name, found)
            return TaskNews.UNKNOWN
        if fault and workers.consuming & workers.knowing:
            self._end(fault)
            return TaskNews.KNOWN_AGAIN
        return TaskNews.NONE

    def _end(self, fault: TaskFault) -> None:
        delete_fault(self._client, self._host, self._inbox.name, fault.kind)
        if not fault.lines:
            return
        if fault.kind is FaultKind.UNKNOWN:
            self._log.info(events.TASK_KNOWN)
        else:
            self._log.info(events.QUEUE_CONSUMED, queue=fault.where)
