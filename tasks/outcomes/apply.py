"""Moves each file by its verdict: to done/, to failed/ or into another attempt. Called by the callbacks and by the sweep."""

import contextlib
import time
from collections.abc import Collection, Sequence

from inboxd.broker.changes import FiledFile
from inboxd.broker.counters import DONE, FAILED, REFUSED, Tally
from inboxd.broker.inbox_outages import is_inbox_wide
from inboxd.broker.leases import Lease, LeaseState
from inboxd.broker.recovery import RecoveryAction, action_after_crash
from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable, InvalidMessage
from inboxd.fs.bounded import foreign_mount
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import count_in_words
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, lone_file_from_bytes
from inboxd.messaging.payload import FILES_MAX
from inboxd.messaging.results import ResultRecord, discard_result
from inboxd.spool.claims import list_files, release_file, remove_if_empty
from inboxd.spool.failing import fail_file
from inboxd.spool.failure import Failure, FailureKind
from inboxd.spool.filing import FilingFolders, is_filed, move_to_done, stat_claimed
from inboxd.spool.layout import Folders, created_at
from inboxd.spool.packed_version import FileChanged, PackedVersion
from inboxd.tasks.outcomes.outputs import Outputs
from inboxd.tasks.outcomes.republish import Republisher
from inboxd.tasks.outcomes.stored_result import is_cancelled, is_killed_by_limit, stored_failure, stored_outcome
from inboxd.tasks.process_state.context import WorkerContext

CHECKED_FILES_MAX = 10
"""Number of files in a parcel up to which each is checked for a program that has it open for writing when it is filed: one that
has opened it again after the claim. In a burst the check would cost a twentieth of the speed."""
CHANGED_REMEDY = "none if it is complete next time; else raise settle_seconds, or have it uploaded under a temporary name"

_log = get_logger(__name__)


class OutcomeApplier:
    """Applies outcomes to the parcels of one inbox. Each step is idempotent: another process may have done it before.

    Methods raise OSError if a folder can't be written, and BrokerUnavailable; files not moved by then stay claimed.
    """

    def __init__(self, context: WorkerContext, inbox: Inbox, folders: Folders) -> None:
        self._context = context
        self._disk = context.disk
        self._inbox = inbox
        self._folders = folders
        self._outputs = Outputs(context, inbox, folders)
        self._tally = Tally()
        self._unsure: dict[bytes, FiledFile] = {}
        self._renamed: list[FiledFile] = []
        self._republisher = Republisher(context, inbox, folders, self._tally)

    def apply(self, outcome: Outcome) -> None:
        """Apply the handler's verdict on each file of a parcel, and close the parcel.

        A file that can't be moved keeps its parcel open, and no other file from being filed.
        """
        # files to retry come last: splitting the last file off removes the parcel's folder
        in_order = sorted(outcome.files, key=lambda file: file.verdict in (Verdict.RETRY_ISOLATED, Verdict.REQUEUE))
        # If we die below: sweeps look at the files that were filed, and find that the others are not there.
        self._watch(self._find_unsure(outcome))
        try:
            with FilingFolders(self._disk, self._folders, self._folders.done) as done:
                missing, errors = self._apply_to_each(outcome, in_order, done)
        finally:
            self._watch(self._renamed)
        if errors:
            raise errors[0]
        if self._close(outcome.parcel, outcome.files, outcome.unreadable) is not LeaseState.FILED:
            self._log_missing(outcome.parcel, missing)

    def _apply_to_each(
        self, outcome: Outcome, files: list[FileOutcome], done: FilingFolders
    ) -> tuple[list[bytes], list[OSError]]:
        """Apply the verdict on each file; return the missing files and the errors. Raises an error of the inbox as a whole."""
        missing, errors = [], []
        for file in files:
            try:
                if not self._apply_unless_changed(outcome, file, done):
                    missing.append(file.path)
            except OSError as error:
                if is_inbox_wide(self._disk, self._inbox.root, error):
                    raise
                errors.append(error)
        return missing, errors

    def apply_result(self, parcel: str, stored: ResultRecord, lease: Lease | None) -> bool:
        """Apply a parcel's final result as Celery stored it: an outcome, or a failure.

        An outcome that is malformed, or another parcel's, is removed: return False; the next sweep publishes the parcel again.
        """
        try:
            outcome = stored_outcome(stored, parcel, self._inbox.name)
        except InvalidMessage as error:
            discard_result(self._context.app, parcel, str(error))
            return False
        if outcome:
            self.apply(outcome)
            return True
        paths = list_dropped(self._disk, self._folders, parcel, lease)
        if len(paths) > 1 and not is_cancelled(
            stored
        ):  # only a parcel of one file fails as a whole: for more files, retry each
            self.split_all(parcel, paths)
            return True
        lone = lone_file_from_bytes(lease.lone_file) if lease else None
        version = lone[1] if lone and [lone[0]] == paths else None
        attempts = lease.attempt if lease else 1
        failure = stored_failure(stored)
        files = [FileOutcome(path, Verdict.REJECTED, failure.reason, version=version, kind=failure.kind) for path in paths]
        for file in files:
            self._apply_unless_changed(Outcome(parcel, self._inbox.name, attempts, ()), file)
        self._close(parcel, files or _gone(lease))
        return True

    def apply_task_failure(self, parcel: str, lease: Lease | None, failure: Failure | None) -> None:
        """Move the file of a parcel to failed/, because another app's task has failed; None: its app keeps the reason."""
        reason = f"the task {self._inbox.task} failed; the log of its worker says why"
        attempts = lease.crashes + 1 if lease else 1
        paths = list_dropped(self._disk, self._folders, parcel, lease)
        for path in paths:
            self._fail(parcel, path, failure or Failure(FailureKind.RAISED, reason), attempts)
        self._close(parcel, [FileOutcome(path, Verdict.REJECTED) for path in paths])

    def apply_crash(self, parcel: str, lease: Lease, stored: ResultRecord) -> None:
        """Count a worker's crash on a parcel; retry the files, or fail a lone file that has crashed too many workers.

        ``stored`` is the parcel's result, which says whether Celery has killed the worker's process at the time limit.
        """
        crashes = self._context.leases.requeue_if_unchanged(
            parcel, lease, self._context.settings.sweep.grace_seconds, crashed=True
        )
        # If we die here, or below: the crash is counted, the lease lapses, and the sweep continues with the remaining files.
        paths = list_dropped(self._disk, self._folders, parcel, lease)
        if crashes is None:
            return
        if not paths:
            self.close_without_file(parcel, lease)
            return
        _log.warning(
            events.PARCEL_CRASHED, inbox=self._inbox.name, parcel=parcel, files=len(paths), crashes=crashes, worker=lease.owner
        )
        match action_after_crash(crashes, len(paths), self._context.settings.work.crashes_max):
            case RecoveryAction.SPLIT:
                self.apply_progress(parcel, lease)
            case RecoveryAction.REPUBLISH:
                started = int(bool(lease.owner))  # a worker that crashed on the message itself has started no attempt
                self.republish(parcel, paths, retries=max(lease.attempts_used - started, 0))
            case _:
                failure = self._crash_failure(crashes, is_limit=is_killed_by_limit(stored))
                self._fail(parcel, paths[0], failure, lease.attempt)
                self._close(parcel, [FileOutcome(paths[0], Verdict.REJECTED)])

    def _crash_failure(self, crashes: int, *, is_limit: bool) -> Failure:
        if is_limit:
            limit = self._inbox.time_limit_seconds
            reason = f"processing took longer than {limit} s and did not end, so that its process was killed, {crashes} times"
            return Failure(FailureKind.TIME_LIMIT, reason)
        reason = f"the worker process died while it processed this file, {crashes} times in a row"
        return Failure(FailureKind.CRASHED, reason)

    def apply_progress(self, parcel: str, lease: Lease) -> None:
        """Apply the verdicts that a worker recorded before it died, and split off each of the other files."""
        recorded = Outcome(parcel, self._inbox.name, lease.attempt, tuple(self._context.progress.read(parcel).values()))
        self._watch(self._find_unsure(recorded))
        try:
            for file in recorded.files:
                self._apply_unless_changed(recorded, file)
        finally:
            self._watch(self._renamed)
        self.split_all(parcel, list_files(self._disk, self._folders, parcel))

    def republish(self, parcel: str, paths: list[bytes], *, retries: int = 0) -> None:
        """Publish a parcel again, with ``retries`` attempts used; split a parcel with too many files for a message."""
        if len(paths) > FILES_MAX:
            self.split_all(parcel, paths)
        else:
            self._republisher.publish(parcel, paths, retries=retries)

    def close_without_file(self, parcel: str, lease: Lease | None) -> None:
        """Close a parcel whose only file is gone; what its handler has left goes to failed/."""
        if gone := _gone(lease):
            self._close(parcel, gone)

    def split_all(self, parcel: str, paths: list[bytes]) -> None:
        """Publish each file in a parcel of its own, and close the original parcel."""
        for path in paths:
            self._republisher.split_off(parcel, path)
        self._close(parcel)

    def _apply_unless_changed(self, outcome: Outcome, file: FileOutcome, done: FilingFolders | None = None) -> bool:
        """Apply one file's verdict, unless it was given to another version of the file; return as ``_apply_to_file``."""
        try:
            return self._apply_to_file(outcome, file, done)
        except FileChanged:
            return self._hand_out_again(outcome, file.path)

    def _apply_to_file(self, outcome: Outcome, file: FileOutcome, done: FilingFolders | None) -> bool:
        """Apply one file's verdict; return False if a file that should be moved is not in claimed/. Raises FileChanged."""
        match file.verdict:
            case Verdict.DONE:
                return self._file_done(outcome, file, done)
            case Verdict.REJECTED:
                return self._fail(outcome.parcel, file.path, file.failure, outcome.attempt, self._expected(file))
            case Verdict.MISSING:
                return False
            case Verdict.RETRY_ISOLATED if self._inbox.retries == 0:
                self._fail(outcome.parcel, file.path, file.failure, attempts=1)
            case Verdict.RETRY_ISOLATED:
                self._republisher.split_off(outcome.parcel, file.path, failure=file.reason or "", retry_after=file.retry_after)
            case Verdict.REQUEUE:
                self._republisher.split_off(outcome.parcel, file.path, store_fault=file.reason or "")
        return True  # a file to retry that is missing may have been split off before

    def _expected(self, file: FileOutcome) -> PackedVersion | None:
        return None if self._inbox.ignore_changes else file.version

    def _hand_out_again(self, outcome: Outcome, path: bytes) -> bool:
        """Move a file that was changed after it was packed back to inbox/, as a new file; after several changes, fail it.

        Return False if it is not in claimed/.
        """
        changes = self._context.changes.count(self._inbox.name, path)
        _log.warning(
            events.FILE_CHANGED, inbox=self._inbox.name, file=path, parcel=outcome.parcel, changes=changes,
            changes_max=self._inbox.changes_max, remedy=CHANGED_REMEDY,
        )  # fmt: skip
        if changes <= self._inbox.changes_max:
            # If we die here: the file is in inbox/ again, or still claimed, and the change is counted twice.
            is_released = release_file(self._disk, self._folders, outcome.parcel, path)
            if is_released:
                why = "the file was written to after it was packed"
                _log.info(events.FILE_RELEASED, inbox=self._inbox.name, file=path, parcel=outcome.parcel, why=why)
            return is_released
        return self._fail(outcome.parcel, path, changed_too_often(changes), changes)

    def _file_done(self, outcome: Outcome, file: FileOutcome, done: FilingFolders | None) -> bool:
        path, expected = file.path, self._expected(file)
        self._outputs.store(outcome.parcel, file)
        if conflict := self._outputs.find_conflict(outcome.parcel, path):
            return self._fail(outcome.parcel, path, conflict, outcome.attempt, expected)
        refuses_writers = expected is not None and len(outcome.files) <= CHECKED_FILES_MAX
        filed = move_to_done(
            self._disk, self._folders, outcome.parcel, path, done, expected=expected, refuses_writers=refuses_writers
        )
        if filed is None:
            return False
        if filed != path and (unsure := self._unsure.get(path)):
            self._renamed.append(unsure._replace(filed=filed))
        seconds = max(time.time() - created_at(outcome.parcel), 0.0)
        self._tally.count_filed(self._inbox.name, DONE, seconds)
        _log.info(
            events.FILE_DONE, inbox=self._inbox.name, file=path, parcel=outcome.parcel, attempt=outcome.attempt,
            filed=filed, size=file.version.size if file.version else None, content_type=_content_type(file.result),
            took_ms=round(seconds * 1000, 1),
        )  # fmt: skip
        return True

    def _find_unsure(self, outcome: Outcome) -> list[FiledFile]:
        """Return the files that are to be done, and to which a program may still write unseen: sweeps look at them again."""
        self._unsure = {}
        for file in outcome.files:
            version = self._expected(file)
            if file.verdict is Verdict.DONE and version and (version.is_unsure or foreign_mount(self._disk, self._inbox.root)):
                with contextlib.suppress(OSError):  # the move meets it, too
                    if stat := stat_claimed(self._disk, self._folders, outcome.parcel, file.path):
                        self._unsure[file.path] = FiledFile(
                            file.path, file.path, version.size, version.mtime_ns, stat.ino, stat.uid, time.time()
                        )
        return list(self._unsure.values())

    def _watch(self, files: list[FiledFile]) -> None:
        if files:
            self._context.changes.watch(self._inbox.name, files)
            self._renamed = []

    def _fail(self, parcel: str, path: bytes, failure: Failure, attempts: int, expected: PackedVersion | None = None) -> bool:
        filed = (
            fail_file(self._disk, self._folders, self._inbox, parcel, path, failure, attempts=attempts, expected=expected)
            is not None
        )
        self._tally.count_filed(self._inbox.name, FAILED if attempts else REFUSED, files=int(filed))
        return filed

    def _close(self, parcel: str, files: Sequence[FileOutcome] = (), unreadable: Collection[bytes] = ()) -> LeaseState | None:
        """Remove the parcel's empty folders, and mark it filed, so that copies of its message are ignored.

        ``files`` are all files that were handed out: what else is left, a handler has made. Returns the lease's previous state.
        """
        if not remove_if_empty(self._disk, self._folders, parcel):
            if files:
                self._outputs.file_leftovers(parcel, files, unreadable)
            self._outputs.close(parcel)
        # If we die here: a lease that expires, and perhaps a message whose files are missing.
        before = self._context.leases.mark_filed(parcel)
        self._write_counts()
        return before

    def close_outputs(self, parcel: str) -> None:
        """Deliver the outputs of a parcel's files that are filed, and close it if no file is left. Raises OSError."""
        self._outputs.close(parcel)

    def _log_missing(self, parcel: str, paths: list[bytes]) -> None:
        """Log each of these files, which are not in claimed/, that is not in done/ or failed/, either."""
        gone = [path for path in paths if not is_filed(self._disk, self._folders, path)]
        for path in gone:
            why = "the file is no longer in claimed/: its handler or another program moved or deleted it"
            _log.warning(events.FILE_MISSING, inbox=self._inbox.name, file=path, parcel=parcel, why=why)
        self._tally.count_missing(self._inbox.name, len(gone))
        if gone:
            self._write_counts()

    def _write_counts(self) -> None:
        # If we die here: the statistics lack these files.
        with contextlib.suppress(BrokerUnavailable):
            self._context.counters.write(self._tally)


def _content_type(result: object) -> str | None:
    """Return the content type that a handler has returned, as ``describe`` does."""
    value = result.get("content_type") if isinstance(result, dict) else None
    return value if isinstance(value, str) else None


def changed_too_often(changes: int) -> Failure:
    """Return why a file fails that was changed again and again: at each of ``changes`` attempts."""
    reason = (
        f"the file was changed {count_in_words(changes)} while it was processed, so that its result is not that of its "
        "content: drop it again when it is complete"
    )
    return Failure(FailureKind.CHANGED, reason)


def list_dropped(disk: Disk, folders: Folders, parcel: str, lease: Lease | None) -> list[bytes]:
    """Return the paths of a parcel's files without a handler's outputs, as far as its lease tells them apart."""
    paths = list_files(disk, folders, parcel)
    lone = lone_file_from_bytes(lease.lone_file) if lease else None
    return [path for path in paths if path == lone[0]] if lone else paths


def _gone(lease: Lease | None) -> list[FileOutcome]:
    """Return the outcome of a parcel's only file that is no longer there; [] if the lease does not name it."""
    lone = lone_file_from_bytes(lease.lone_file) if lease else None
    return [FileOutcome(lone[0], Verdict.REJECTED)] if lone else []
