"""The outcome of a parcel: the task's result, which the success callback and the stale sweep read."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import msgpack

from inboxd.errors import InvalidMessage
from inboxd.messaging.payload import expect_type, paths_from_wire, version_from_wire
from inboxd.spool.failure import Failure, FailureKind
from inboxd.spool.layout import is_parcel_id, split_path
from inboxd.spool.packed_version import PackedVersion

VERSION = 1
RETRY_AFTER_MAX = 86_400.0


class Verdict(StrEnum):
    """What happens to one file after its parcel was processed."""

    DONE = "done"  # move to done/
    REJECTED = "rejected"  # move to failed/: the handler rejected the file
    RETRY_ISOLATED = "retry_isolated"  # the handler raised: retry, a file of many in a parcel of its own
    REQUEUE = "requeue"  # the files before it have used up the time limit: send it again
    MISSING = "missing"  # the file was not in claimed/


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """One file's path below inbox/, its verdict, the reason of a rejection or an exception, and the handler's return value.

    ``version`` is that of the claimed file when it was packed; None if unknown. ``kind`` is that of the failure; None: the
    verdict says it. ``retry_after`` is the time in seconds that the program behind the handler has asked for before a retry.
    ``outputs`` has the path below out/ and the content of what a worker has made that does not see the folders.
    """

    path: bytes
    verdict: Verdict
    reason: str | None = None
    result: Any = None
    version: PackedVersion | None = None
    kind: FailureKind | None = None
    retry_after: float = 0.0
    outputs: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def failure(self) -> Failure:
        """The failure of a file that is not done."""
        kind = self.kind or (FailureKind.REJECTED if self.verdict is Verdict.REJECTED else FailureKind.RAISED)
        return Failure(kind, self.reason or "")

    @property
    def is_from_handler(self) -> bool:
        """Whether the handler has returned or raised, so that it is not called again after a crash of the worker."""
        return self.verdict in (Verdict.DONE, Verdict.REJECTED, Verdict.RETRY_ISOLATED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A parcel's outcome; ``attempt`` is the number of starts so far; for ``unreadable`` see Parcel."""

    parcel: str
    inbox: str
    attempt: int
    files: tuple[FileOutcome, ...]
    unreadable: tuple[bytes, ...] = ()


def outcome_to_wire(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as the map that is stored as the task's result."""
    files = [
        {
            "filename": file.path,
            "verdict": file.verdict.value,
            "reason": file.reason,
            "result": file.result,
            "version": file.version and list(file.version),
            "kind": file.kind and file.kind.value,
            **({"retry_after": file.retry_after} if file.retry_after else {}),
            **({"outputs": list(file.outputs)} if file.outputs else {}),
        }
        for file in outcome.files
    ]
    return {
        "version": VERSION, "parcel": outcome.parcel, "inbox": outcome.inbox, "attempt": outcome.attempt, "files": files,
        "unreadable": list(outcome.unreadable),
    }  # fmt: skip


def outcome_from_wire(wire: object) -> Outcome:
    """Return the outcome in a task's result, with every value checked: it may come from a message. Raises InvalidMessage."""
    try:
        if not isinstance(wire, dict) or wire["version"] != VERSION or not is_parcel_id(wire["parcel"]):
            raise InvalidMessage(f"malformed outcome: not a map of version {VERSION} with the id of a parcel")
        files = tuple(map(_to_file_outcome, wire["files"]))
        unreadable = paths_from_wire(wire["unreadable"])
        return Outcome(wire["parcel"], str(wire["inbox"]), int(wire["attempt"]), files, unreadable)
    except KeyError as error:
        raise InvalidMessage(f"malformed outcome: key {error} is missing") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidMessage(f"malformed outcome: {error}") from error


def _to_file_outcome(wire: object) -> FileOutcome:
    table = expect_type(dict, wire)
    path, reason = expect_type(bytes, table["filename"]), table["reason"]
    split_path(path)
    version = version_from_wire(table["version"])
    reason = None if reason is None else expect_type(str, reason)
    kind = kind_from_wire(table.get("kind"))
    retry_after = min(max(float(table.get("retry_after", 0.0)), 0.0), RETRY_AFTER_MAX)
    outputs = tuple(map(_to_output, table.get("outputs", ())))
    return FileOutcome(path, Verdict(table["verdict"]), reason, table["result"], version, kind, retry_after, outputs)


def _to_output(wire: object) -> tuple[bytes, bytes]:
    path, content = expect_type(list, wire)
    split_path(expect_type(bytes, path))
    return path, expect_type(bytes, content)


def kind_from_wire(value: Any) -> FailureKind | None:  # noqa: ANN401 - anything
    """Return the kind of a failure; None if another version wrote the value, which has none, or one that is not known here."""
    return next((kind for kind in FailureKind if kind.value == value), None)


def lone_file_to_bytes(path: bytes, version: PackedVersion | None) -> bytes:
    """Return the path and version of a parcel's only file, for its lease."""
    return cast("bytes", msgpack.packb([path, version]))


def lone_file_from_bytes(packed: bytes) -> tuple[bytes, PackedVersion | None] | None:
    """Return the path and version of a parcel's only file; None if the parcel has several, or is not known."""
    try:
        path, version = msgpack.unpackb(packed)
        split_path(expect_type(bytes, path))
        return path, version_from_wire(version)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
