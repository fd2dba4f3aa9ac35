"""Why a file goes to failed/: the kind of its failure, which chooses the text of its note, and the reason in one line."""

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """The kinds of failures. Each has a section in the texts of notes; docs/notes.md lists them."""

    REJECTED = "rejected"  # the handler raised RejectFile
    RAISED = "raised"  # the handler raised anything else, at its last attempt
    TIME_LIMIT = "time_limit"  # the handler exceeded time_limit_seconds
    CRASHED = "crashed"  # the worker's process died while it processed the file
    CHANGED = "changed"  # the file was written to while it was processed, again and again
    NAME_TAKEN = "name_taken"  # a result of that name exists already, and on_conflict is "fail"
    CANCELLED = "cancelled"  # an operator revoked the parcel
    TOO_LARGE = "too_large"  # above size_bytes_max
    LINK = "link"  # a symbolic link
    SHORTCUT = "shortcut"  # a file of Windows, macOS or a desktop that refers to another one
    NOT_A_FILE = "not_a_file"  # a pipe, a socket, a device, or a folder in the place of a file
    UNREADABLE = "unreadable"  # the service may not read it
    INCOMPLETE = "incomplete"  # a large sparse file: hardly any of its bytes are stored
    TOO_DEEP = "too_deep"  # a folder below depth_max
    OUTPUT = "output"  # nobody dropped it: a handler left it behind when it failed


@dataclass(frozen=True, slots=True)
class Failure:
    """A file's failure. ``reason`` is for the administrator; of REJECTED, it is the handler's text for the dropper."""

    kind: FailureKind
    reason: str
