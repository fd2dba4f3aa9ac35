"""The task that copies a parcel's large files into the store, for workers on other hosts, and then publishes the parcel."""

import contextlib
import dataclasses
import time
from typing import Any

from celery import Celery, Task

from inboxd.broker.leases import LeaseState
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable, InvalidMessage, StageUnavailable, TransientError
from inboxd.fs.folders import open_path, opened_path
from inboxd.fs.syscalls import closing
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.celery_app import STAGE
from inboxd.messaging.file_stream import open_stream
from inboxd.messaging.payload import FilePart, Parcel, parcel_from_wire
from inboxd.messaging.publishing import Publisher
from inboxd.messaging.queues import files_queue
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.spool.layout import CLAIMED, split_path
from inboxd.stage.records import StageRecords, Version
from inboxd.stage.staged_copy import StagedCopy
from inboxd.stage.store import STALL_SECONDS, Store
from inboxd.tasks.hardening.redacted_request import RedactedRequest
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.shared_settings import CurrentContext

WAIT_SECONDS = 20.0
"""How long a file waits if no worker may take it: none sees the folders, and none runs elsewhere, or the store has a fault."""

_log = get_logger(__name__)


class ParcelStager:
    """Decides for one parcel after the other who may take it."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._records = StageRecords(context.client, context.host)
        self._registry = WorkerRegistry(context.client, context.host)
        self._publisher = Publisher(context.app, context.leases)

    def run(self, task: Task[..., Any], wire: object, retries: object, avoids_store: object) -> None:
        """Upload a parcel's large files if a worker on another host may take them, and publish the parcel.

        If nobody can work on it now, its lease lapses after a time, and the sweep publishes it again.
        """
        parcel, inbox = self._read(task, wire)
        lease = self._context.leases.read([parcel.id])[parcel.id]
        if lease and lease.state is not LeaseState.QUEUED:
            _log.info(events.DUPLICATE_IGNORED, parcel=parcel.id, inbox=inbox.name, why="the parcel was published before")
            return
        if not self._records.hold_upload(parcel.id, self._hold_seconds, begin=True):
            _log.info(events.DUPLICATE_IGNORED, parcel=parcel.id, inbox=inbox.name, why="the parcel is being uploaded")
            return
        try:
            parcel = self._stage_if_needed(parcel, inbox, avoids_store=bool(avoids_store))
            if parcel.by_reference and not self._has_local:
                self._context.leases.await_answer(parcel.id, WAIT_SECONDS)
                return
            # If we die here: the lease lapses, and the sweep publishes the parcel again; the copies are found by their record.
            self._context.leases.await_answer(parcel.id, self._context.settings.sweep.grace_seconds)
            self._publisher.publish(parcel, inbox, retries=retries if isinstance(retries, int) else 0)
        finally:
            self._records.end_upload(parcel.id)

    @property
    def _hold_seconds(self) -> float:
        return STALL_SECONDS + self._context.settings.sweep.grace_seconds

    @property
    def _has_local(self) -> bool:
        """Whether a worker takes files that it reads in claimed/: this one, or another."""
        return self._registry.has_local or files_queue(self._context.host) in self._context.app.amqp.queues.consume_from

    def _stage_if_needed(self, parcel: Parcel, inbox: Inbox, *, avoids_store: bool) -> Parcel:
        """Return the parcel with copies in the store, if a worker elsewhere may take it, and the store has no fault."""
        self._registry.refresh()
        if self._context.store and self._registry.has_remote and not (avoids_store and self._has_local):
            with contextlib.suppress(StageUnavailable):  # which is logged
                return self._stage(self._context.store, parcel, inbox)
        return parcel

    def _read(self, task: Task[..., Any], wire: object) -> tuple[Parcel, Inbox]:
        parcel = parcel_from_wire(wire)
        inbox = self._context.settings.inbox.get(parcel.inbox)
        if parcel.id != task.request.id or parcel.host != self._context.host:
            raise InvalidMessage("the parcel's id is not the task's, or its folders are on another host")
        if inbox is None:  # until the settings are corrected, the sweep publishes the parcel again and again
            raise TransientError(f"this worker's settings have no [inbox.{parcel.inbox}]")
        return dataclasses.replace(parcel, root=bytes(inbox.root)), inbox

    def _stage(self, store: Store, parcel: Parcel, inbox: Inbox) -> Parcel:
        """Return the parcel with a copy in the store for each large file. Raises StageUnavailable."""
        if fault := self._records.read_fault():
            raise StageUnavailable(fault)
        copies = self._records.read(parcel.id)
        try:
            parts = tuple(self._stage_part(store, parcel, inbox, part, copies) for part in parcel.files)
        except StageUnavailable as error:
            if self._records.set_fault(str(error)):
                remedy = "make it available; until then workers that see the folders take large files, or these wait"
                _log.warning(events.STAGE_UNAVAILABLE, error=str(error), remedy=remedy)
            raise
        return dataclasses.replace(parcel, files=parts)

    def _stage_part(
        self, store: Store, parcel: Parcel, inbox: Inbox, part: FilePart, copies: dict[Version, StagedCopy]
    ) -> FilePart:
        if part.stream is not None:
            return part
        version = (part.filename, part.content_length, part.version.mtime_ns if part.version else 0)
        copy = copies.get(version)
        if copy is None:
            try:
                copy = self._upload(store, parcel, inbox, part)
            except (OSError, ValueError) as error:  # workers that see the file find out what it is
                remedy = "none: a worker that sees the folders takes it"
                _log.info(
                    events.FILE_DENIED, inbox=inbox.name, file=part.filename, parcel=parcel.id, error=str(error), remedy=remedy
                )  # fmt: skip
                return part
            copies[version] = copy
            self._records.write(parcel.id, copies)
        return dataclasses.replace(part, staged=copy, headers={**part.headers, "sha256": copy.sha256})

    def _upload(self, store: Store, parcel: Parcel, inbox: Inbox, part: FilePart) -> StagedCopy:
        disk, started = self._context.disk, time.monotonic()
        parts, name = split_path(part.filename)
        with (
            closing(disk, disk.open_root(inbox.root)) as root,
            closing(disk, open_path(disk, root, (CLAIMED, parcel.id.encode()))) as home,
            opened_path(disk, home, parts) as at,
        ):
            stat, stream = open_stream(disk, disk.open_file(at, name))
        with stream:
            if stat.size != part.content_length or (part.version and stat.mtime_ns != part.version.mtime_ns):
                raise ValueError("the file was changed after it was packed")

            def progress() -> None:
                self._records.hold_upload(parcel.id, self._hold_seconds, begin=False)
                self._context.leases.await_answer(parcel.id, self._hold_seconds)

            copy = store.upload(self._context.host, parcel.id, stream, stat.size, progress)
        _log.info(
            events.FILE_STAGED, inbox=inbox.name, file=part.filename, parcel=parcel.id, size=stat.size, sha256=copy.sha256,
            took_ms=round((time.monotonic() - started) * 1000, 1),
        )  # fmt: skip
        return copy


def register(app: Celery, current: CurrentContext) -> None:
    """Register the task with the app."""

    def run(self: Task[..., Any], wire: object, retries: object, avoids_store: object = False) -> None:
        try:
            ParcelStager(current.get()).run(self, wire, retries, avoids_store)
        except (BrokerUnavailable, InvalidMessage) as error:  # the lease lapses, and the sweep publishes the parcel again
            _log.warning(events.MESSAGE_INVALID, task=STAGE, error=str(error))

    app.task(name=STAGE, bind=True, ignore_result=True, Request=RedactedRequest)(run)
