"""What became of a parcel's files in the handler: the task's result, which the success callback and the sweeps read."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from inboxd.errors import InvalidMessage
from inboxd.spool.layout import is_parcel_id, split_path

VERSION = 1


class Verdict(StrEnum):
    """What is to happen to one file now."""

    DONE = "done"  # to done/
    REJECTED = "rejected"  # to failed/: the handler's final word
    RETRY_ISOLATED = "retry_isolated"  # it raised in company: try it again in a parcel of its own
    REQUEUE = "requeue"  # the parcel's time was up before its turn: hand it out again
    MISSING = "missing"  # it was not there any more


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """One file's outcome: its path below inbox/, the verdict, a reason if it is not done, the handler's answer if it is."""

    path: bytes
    verdict: Verdict
    reason: str | None = None
    result: Any = None

    @property
    def is_from_handler(self) -> bool:
        """Whether the handler has decided it: it need not be asked again."""
        return self.verdict in (Verdict.DONE, Verdict.REJECTED, Verdict.RETRY_ISOLATED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A parcel's outcome; ``attempt`` counts how often it was started."""

    parcel: str
    inbox: str
    attempt: int
    files: tuple[FileOutcome, ...]


def outcome_to_wire(outcome: Outcome) -> dict[str, Any]:
    """Return the map that is stored as the task's result."""
    files = [
        {"filename": file.path, "verdict": file.verdict.value, "reason": file.reason, "result": file.result}
        for file in outcome.files
    ]
    return {
        "version": VERSION, "parcel": outcome.parcel, "inbox": outcome.inbox, "attempt": outcome.attempt, "files": files,
    }  # fmt: skip


def outcome_from_wire(wire: object) -> Outcome:
    """Read an outcome; everything in it is checked, for it may come from a message. Raises BadPayload."""
    try:
        if not isinstance(wire, dict) or wire["version"] != VERSION or not is_parcel_id(wire["parcel"]):
            raise InvalidMessage("no outcome of a parcel")
        files = tuple(
            FileOutcome(
                _expect_bytes(file["filename"]), Verdict(file["verdict"]), _expect_reason(file["reason"]), file["result"]
            )
            for file in wire["files"]
        )
        for file in files:
            split_path(file.path)
        return Outcome(wire["parcel"], str(wire["inbox"]), int(wire["attempt"]), files)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidMessage(f"an outcome of the wrong shape: {error}") from error


def _expect_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"bytes expected, not {type(value).__name__}")
    return value


def _expect_reason(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"a reason expected, not {type(value).__name__}")
    return value
