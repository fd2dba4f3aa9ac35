"""The outcome of a parcel: the task's result, which the success callback and the stale sweep read."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from inboxd.errors import InvalidMessage
from inboxd.messaging.payload import expect_type
from inboxd.spool.layout import is_parcel_id, split_path

VERSION = 1


class Verdict(StrEnum):
    """What happens to one file after its parcel was processed."""

    DONE = "done"  # move to done/
    REJECTED = "rejected"  # move to failed/: the handler rejected the file
    RETRY_ISOLATED = "retry_isolated"  # the handler raised: retry, a file of many in a parcel of its own
    REQUEUE = "requeue"  # the files before it have used up the time limit: send it again
    MISSING = "missing"  # the file was not in claimed/


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """One file's path below inbox/, its verdict, the reason of a rejection or an exception, and the handler's return value."""

    path: bytes
    verdict: Verdict
    reason: str | None = None
    result: Any = None

    @property
    def is_from_handler(self) -> bool:
        """Whether the handler has returned or raised, so that it is not called again after a crash of the worker."""
        return self.verdict in (Verdict.DONE, Verdict.REJECTED, Verdict.RETRY_ISOLATED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A parcel's outcome; ``attempt`` is the number of starts so far."""

    parcel: str
    inbox: str
    attempt: int
    files: tuple[FileOutcome, ...]


def outcome_to_wire(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as the map that is stored as the task's result."""
    files = [
        {"filename": file.path, "verdict": file.verdict.value, "reason": file.reason, "result": file.result}
        for file in outcome.files
    ]
    return {
        "version": VERSION, "parcel": outcome.parcel, "inbox": outcome.inbox, "attempt": outcome.attempt, "files": files,
    }  # fmt: skip


def outcome_from_wire(wire: object) -> Outcome:
    """Return the outcome in a task's result, with every value checked: it may come from a message. Raises InvalidMessage."""
    try:
        if not isinstance(wire, dict) or wire["version"] != VERSION or not is_parcel_id(wire["parcel"]):
            raise InvalidMessage(f"malformed outcome: not a map of version {VERSION} with the id of a parcel")
        files = tuple(map(_to_file_outcome, wire["files"]))
        return Outcome(wire["parcel"], str(wire["inbox"]), int(wire["attempt"]), files)
    except KeyError as error:
        raise InvalidMessage(f"malformed outcome: key {error} is missing") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidMessage(f"malformed outcome: {error}") from error


def _to_file_outcome(wire: object) -> FileOutcome:
    table = expect_type(dict, wire)
    path, reason = expect_type(bytes, table["filename"]), table["reason"]
    split_path(path)
    return FileOutcome(path, Verdict(table["verdict"]), None if reason is None else expect_type(str, reason), table["result"])
