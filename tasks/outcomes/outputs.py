"""What handlers have made, when their files are filed: outputs go to their folder, leftovers beside their file."""

from collections.abc import Collection, Sequence
from functools import partial

from inboxd.config.rules import Inbox
from inboxd.intake.temporary_names import final_path
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape
from inboxd.messaging.outcome import FileOutcome, Verdict
from inboxd.spool.claims import list_files, remove_if_empty
from inboxd.spool.delivery import Destination, find_taken, finish_outputs
from inboxd.spool.failing import file_failed_output
from inboxd.spool.failure import Failure, FailureKind
from inboxd.spool.filing import move_to_done
from inboxd.spool.layout import Folders
from inboxd.spool.outputs import store_outputs
from inboxd.tasks.process_state.context import WorkerContext

_log = get_logger(__name__)


class Outputs:
    """The outputs of one inbox's files. Methods raise OSError; each is idempotent, as OutcomeApplier's."""

    def __init__(self, context: WorkerContext, inbox: Inbox, folders: Folders) -> None:
        self._disk = context.disk
        self._inbox = inbox
        self._folders = folders
        self._destination = _find_destination(context, inbox)

    def store(self, parcel: str, file: FileOutcome) -> None:
        """Store what a worker that does not see the folders has sent back with a file's outcome."""
        if file.outputs:
            # If we die here: they are committed, and those of another call are not.
            store_outputs(self._disk, self._folders, parcel, file.path, file.outputs)

    def find_conflict(self, parcel: str, path: bytes) -> Failure | None:
        """Return why a file fails, because one of its outputs would have a name that is taken; None if it does not."""
        if self._destination.on_conflict != "fail":
            return None
        if not (taken := find_taken(self._disk, self._folders, parcel, path, self._destination)):
            return None
        return Failure(FailureKind.NAME_TAKEN, f"the output {escape(taken)} exists already, and on_conflict is fail")

    def close(self, parcel: str) -> None:
        """Deliver the outputs of a parcel's files that are filed, and close it if no file is left. Raises OSError."""
        remove_if_empty(self._disk, self._folders, parcel)
        for output in finish_outputs(self._disk, self._folders, parcel, self._destination):
            log = _log.bind(inbox=self._inbox.name, file=output.source, parcel=parcel, output=output.name)
            if output.filed is None:
                log.warning(events.OUTPUT_LEFT_OUT, why="it is a link, a pipe or a device", remedy="make files and folders")
            else:
                log.info(events.OUTPUT_DELIVERED, filed=output.filed, into=self._inbox.out or None)
        remove_if_empty(self._disk, self._folders, parcel)

    def file_leftovers(self, parcel: str, files: Sequence[FileOutcome], unreadable: Collection[bytes]) -> None:
        """Move what handlers left beside their files to where these are, without handling it."""
        verdicts = {file.path: file.verdict for file in files}
        for path in list_files(self._disk, self._folders, parcel):
            if path in verdicts or path in unreadable:
                continue
            beside = max(verdicts, key=lambda file: _common_prefix(file, path))
            if verdicts[beside] is Verdict.DONE:
                filed = move_to_done(self._disk, self._folders, parcel, path)
            else:
                filed = file_failed_output(self._disk, self._folders, self._inbox, parcel, path, beside)
            remedy = "the handler left it in claimed/: use file.output(), or write results elsewhere"
            _log.warning(
                events.OUTPUT_FILED, inbox=self._inbox.name, file=path, parcel=parcel, beside=beside, filed=filed, remedy=remedy
            )
        remove_if_empty(self._disk, self._folders, parcel)


def _find_destination(context: WorkerContext, inbox: Inbox) -> Destination:
    """Return where an inbox's outputs go. What goes to another inbox is complete, whatever its name says."""
    folder = context.settings.output_folder(inbox)
    if (following := context.settings.inbox.get(inbox.next_inbox)) is None:
        return Destination(folder, inbox.on_conflict)
    rename = partial(final_path, changes=following.temporary_names)
    return Destination(folder, inbox.on_conflict, rename)


def _common_prefix(first: bytes, second: bytes) -> int:
    """Return how many bytes two paths have in common at their beginning."""
    return next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
