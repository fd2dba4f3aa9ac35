"""What `inboxd retry` does: choosing what in failed/ is to be put back, and putting it back, one by one."""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inboxd.config.settings import Inbox, Settings
from inboxd.console.paths import find_spool_paths
from inboxd.errors import Finding, FolderUnavailable, SettingsError
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.logs.text import escape
from inboxd.spool.error_note import SUFFIX
from inboxd.spool.layout import open_folders
from inboxd.spool.requeue import FailedFile, find_failed_file, list_failed_files, requeue

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be put back: these files; or else all of these inboxes (none named: all) whose reason fits ``error``."""

    files: tuple[str, ...] = ()
    inboxes: tuple[str, ...] = ()
    error: str = "*"


@dataclass(frozen=True, slots=True)
class RequeueResult:
    """What became of one failure: where it is in inbox/ now (or would be put), or why it is not."""

    inbox: str
    failure: FailedFile
    new_path: bytes | None
    problem: str = ""


def requeue_selected(settings: Settings, choice: Selection, *, dry_run: bool = False) -> Iterator[RequeueResult]:
    """Put back what was chosen, and tell of each. Raises SettingsError for a choice that names nothing that there is."""
    _check(settings, choice)
    chosen = _select_named(settings, choice.files) if choice.files else _select_by_reason(settings, choice)
    for inbox, found in chosen:
        yield from _requeue_each(inbox, found, dry_run=dry_run)


def _check(settings: Settings, choice: Selection) -> None:
    findings = [
        Finding(f"--inbox {name}", "is no inbox of the settings", f"name one of: {', '.join(settings.inbox)}")
        for name in choice.inboxes
        if name not in settings.inbox
    ]
    for name, inbox in settings.inbox.items():
        owner = _owner_uid(inbox)
        if os.geteuid() == 0 and owner:  # what root makes in inbox/ could not be taken from there by the service
            remedy = f"run it as its user: sudo -u '#{owner}' inboxd retry …"
            findings.append(Finding(f"inbox.{name}.root", "its folders belong to the service, and you are root", remedy))
    if findings:
        raise SettingsError(findings)


def _owner_uid(inbox: Inbox) -> int:
    try:
        with open_folders(Disk(), inbox.root) as folders:
            return Disk().fstat(folders.claimed).uid
    except FolderUnavailable:
        return 0


def _select_named(settings: Settings, files: Sequence[str]) -> Iterator[tuple[Inbox, list[FailedFile]]]:
    """Yield what lies in failed/ under these names: one file, or all that is in a sub-folder."""
    chosen: dict[str, dict[bytes, FailedFile]] = {}
    findings = []
    for typed in files:
        found = [
            (spot.inbox, failure)
            for spot in find_spool_paths(settings, typed)
            for failure in _below(settings, spot.inbox, spot.path)
        ]
        if not found:
            remedy = "name a file in failed/, or ask what became of it: inboxd explain"
            findings.append(Finding(typed, "nothing that can be put back lies there", remedy))
        for inbox, failure in found:
            chosen.setdefault(inbox, {})[failure.path] = failure
    if findings:
        raise SettingsError(findings)
    for inbox, failed in chosen.items():
        yield settings.inbox[inbox], list(failed.values())


def _below(settings: Settings, inbox: str, path: bytes) -> list[FailedFile]:
    with open_folders(Disk(), settings.inbox[inbox].root) as folders:
        found = find_failed_file(Disk(), folders, path)
        if found is None and path.endswith(SUFFIX):  # its note was named
            found = find_failed_file(Disk(), folders, path.removesuffix(SUFFIX))
        if found and found.is_folder and found.note is None:
            return [failure for failure in list_failed_files(Disk(), folders) if failure.path.startswith(path + b"/")]
        return [found] if found else []


def _select_by_reason(settings: Settings, choice: Selection) -> Iterator[tuple[Inbox, list[FailedFile]]]:
    for name in choice.inboxes or settings.inbox:
        inbox = settings.inbox[name]
        with open_folders(Disk(), inbox.root) as folders:
            found = [failure for failure in list_failed_files(Disk(), folders) if _has_reason(failure, choice.error)]
        yield inbox, found


def _has_reason(failure: FailedFile, pattern: str) -> bool:
    reason = failure.note.reason if failure.note else ""
    return fnmatch.fnmatchcase(reason.lower(), pattern.lower())


def _requeue_each(inbox: Inbox, found: Sequence[FailedFile], *, dry_run: bool) -> Iterator[RequeueResult]:
    disk = Disk()
    with open_folders(disk, inbox.root) as folders:
        for failure in sorted(found, key=lambda failure: failure.path):
            if dry_run:
                yield RequeueResult(inbox.name, failure, failure.original_path)
                continue
            try:
                put = requeue(disk, folders, failure)
            except OSError as error:
                yield RequeueResult(inbox.name, failure, None, error.strerror or str(error))
                continue
            if put is None:
                yield RequeueResult(inbox.name, failure, None, "it is not in failed/ any more")
                continue
            _log_requeued(inbox, failure, put)
            yield RequeueResult(inbox.name, failure, put)


def _log_requeued(inbox: Inbox, failure: FailedFile, put: bytes) -> None:
    told = failure.note
    _log.info(
        events.FILE_REQUEUED, inbox=inbox.name, file=put, filed=failure.path, parcel=told.parcel if told else None,
        attempt=told.attempts if told else None, reason=told.reason if told else None,
        earlier=len(told.earlier) if told else None,
    )  # fmt: skip


def render_result(result: RequeueResult) -> str:
    """Return one line for a person."""
    name = escape(f"{result.inbox}: ") + escape(result.failure.path)
    if result.new_path is None:
        return f"{name}: not put back: {escape(result.problem)}"
    why = f" (failed of: {result.failure.note.reason})" if result.failure.note else ""
    return f"{name} -> inbox/{escape(result.new_path)}{why}"
