"""The keys of an inbox, which ``[defaults]`` sets for all inboxes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from inboxd.config.handler_kinds import HandlerKeys
from inboxd.config.output_rules import OutputKeys
from inboxd.config.units import to_bytes, to_seconds, to_texts
from inboxd.config.values import (
    Bytes,
    Count,
    Days,
    Folder,
    Interval,
    NotifyKind,
    Patterns,
    Seconds,
    expand_notes,
)


class Rules(HandlerKeys, OutputKeys):
    """Keys that each inbox may set for itself; ``[defaults]`` sets them for all inboxes."""

    # selection
    include: Patterns = ("*",)
    exclude: Patterns = ()
    case_sensitive: bool = False
    temporary_names: Patterns = ()
    recursive: bool = True
    depth_max: Annotated[int, Field(ge=1, le=100)] = 32
    size_bytes_max: Bytes = 0
    # readiness
    watch_mode: Literal["auto", "inotify", "polling"] = "auto"
    poll_seconds: Interval = 1.0
    settle_seconds: Seconds = 2.0
    unsure_seconds: Seconds | Literal["auto"] = "auto"
    empty_file_seconds: Seconds = 10.0
    # changes after the claim
    claim: Literal["rename", "copy"] = "rename"
    changes_max: Annotated[int, Field(ge=0, le=100)] = 3
    ignore_changes: bool = False
    # retries and time limit
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    retry_backoff_seconds: Seconds = 2.0
    retry_backoff_max_seconds: Seconds = 300.0
    time_limit_seconds: Annotated[int, BeforeValidator(to_seconds), Field(ge=1, le=86_400)] = 300
    # batching
    inline_bytes_max: Annotated[int, BeforeValidator(to_bytes), Field(ge=0, le=256 * 1024)] = 32 * 1024
    parcel_files_max: Annotated[int, Field(ge=1, le=10_000)] = 500
    parcel_bytes_max: Annotated[int, BeforeValidator(to_bytes), Field(ge=1024, le=16 * 1024 * 1024)] = 1024 * 1024
    in_flight_files_max: Count = 2000
    in_flight_bytes_max: Annotated[int, BeforeValidator(to_bytes), Field(ge=1024)] = 64 * 1024 * 1024
    # retention
    keep_done_days: Days = 0.0
    keep_failed_days: Days = 0.0
    empty_folders: Literal["remove", "keep"] = "remove"
    empty_folder_seconds: Seconds = 600.0
    # what droppers see
    contact: str = ""
    notes: Annotated[str, AfterValidator(expand_notes)] = "en"
    visible_to: Literal["nobody", "group", "droppers"] = "nobody"
    # notifications
    notify_urls: Annotated[tuple[str, ...], BeforeValidator(to_texts), Field(repr=False)] = ()
    notify_on: Annotated[tuple[NotifyKind, ...], BeforeValidator(to_texts)] | Literal["auto"] = "auto"

    @property
    def files_per_parcel_max(self) -> int:
        """The maximum number of files in a parcel.

        One for the task of another app; for a chain, which goes on at a step; and if the outputs of one may fail the next.
        """
        return 1 if self.task or self.steps or self.on_conflict == "fail" else self.parcel_files_max

    def retry_delay(self, retries: int, asked_for: float = 0.0) -> float:
        """Return the seconds before the next attempt: doubled with each retry, and at least what was asked for.

        At most ``retry_backoff_max_seconds``.
        """
        return float(min(max(self.retry_backoff_seconds * 2**retries, asked_for), self.retry_backoff_max_seconds))


class Inbox(Rules):
    """One inbox: its root folder, and its rules with the defaults filled in."""

    root: Folder
    name: str = ""
