"""What keeps files from another app's task, as sweeps have found it: in Redis, a record for each inbox and kind of fault."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.logs.text import escape

FAULT_SECONDS = 7 * 86_400
"""Time after which a record expires that no sweep has renewed, in seconds."""
LINE_SECONDS = (0, 60, 600, 3600)
"""How long a fault lasts when it is logged again, in seconds; then once a day."""
_DAY_SECONDS = 86_400


class FaultKind(StrEnum):
    """Why a task gets no files."""

    UNKNOWN = "unknown"  # a worker consumes the queue, and none has the task: they discard the files
    UNCONSUMED = "unconsumed"  # no worker consumes the queue


@dataclass(frozen=True, slots=True)
class TaskFault:
    """A fault: of UNKNOWN, ``where`` is a worker without the task, of UNCONSUMED the queue.

    ``files`` is how many wait, ``since`` is in unix seconds. ``lines`` is how often the fault was logged: at 0 it is a
    suspicion, of which nobody is told.
    """

    kind: FaultKind
    where: str
    files: int
    since: float
    lines: int = 0

    def is_line_due(self, now: float) -> bool:
        """Return whether the fault is to be logged (again) at a time in unix seconds."""
        days = self.lines - len(LINE_SECONDS) + 1
        return now - self.since >= (LINE_SECONDS[self.lines] if days <= 0 else days * _DAY_SECONDS)


def read_fault(client: redis.Redis, host: str, inbox: str, kind: FaultKind) -> TaskFault | None:
    """Return an inbox's fault of a kind, a suspicion included. Raises BrokerUnavailable."""
    with translate_redis_errors():
        raw = cast("bytes | None", client.get(_key(host, inbox, kind)))
    return _parse(kind, raw) if raw else None


def find_fault(client: redis.Redis, host: str, inbox: str, queue: str) -> TaskFault | None:
    """Return what an inbox's files wait for, apart from suspicions; ``queue`` is its queue now. Raises BrokerUnavailable."""
    for kind in (FaultKind.UNCONSUMED, FaultKind.UNKNOWN):
        fault = read_fault(client, host, inbox, kind)
        if fault and fault.lines and (kind is FaultKind.UNKNOWN or fault.where == queue):
            return fault
    return None


def record_fault(client: redis.Redis, host: str, inbox: str, fault: TaskFault) -> None:
    """Record a fault in place of an earlier one of its kind. Raises BrokerUnavailable."""
    with translate_redis_errors():
        client.set(_key(host, inbox, fault.kind), json.dumps(asdict(fault)), ex=FAULT_SECONDS)


def delete_fault(client: redis.Redis, host: str, inbox: str, kind: FaultKind) -> None:
    """Delete the record of a fault that is over. Raises BrokerUnavailable."""
    with translate_redis_errors():
        client.delete(_key(host, inbox, kind))


def _key(host: str, inbox: str, kind: FaultKind) -> str:
    return f"inboxd:task_{kind}:{host}:{inbox}"


def _parse(kind: FaultKind, raw: bytes) -> TaskFault | None:
    try:
        match json.loads(raw):
            case {"where": str(where), "files": int(files), "since": int() | float() as since, "lines": int(lines)}:
                return TaskFault(kind, escape(where), files, float(since), max(lines, 0))
    except (ValueError, RecursionError):
        pass  # another version's, or another program's: the next sweep finds the fault anew
    return None
