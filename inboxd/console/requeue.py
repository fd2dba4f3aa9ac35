"""Select failed files and move them back into inbox/, one by one: the work of `inboxd retry`."""

import fnmatch
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.console.paths import find_spool_paths
from inboxd.errors import Finding, FolderUnavailable, SettingsError
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape
from inboxd.spool.error_note import SUFFIX
from inboxd.spool.layout import open_folders
from inboxd.spool.requeue import FailedFile, find_failed_file, list_failed_files, requeue

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """The files to move back: ``files`` if given, else all of ``inboxes`` (all if empty) whose reason matches ``error``."""

    files: tuple[str, ...] = ()
    inboxes: tuple[str, ...] = ()
    error: str = "*"


@dataclass(frozen=True, slots=True)
class RequeueResult:
    """The result for one failed file: its path below inbox/ (in a dry run: the one it would get), or why it was not moved."""

    inbox: str
    failure: FailedFile
    new_path: bytes | None
    problem: str = ""


def requeue_selected(
    settings: Settings, selection: Selection, report: Callable[[str], None], *, dry_run: bool = False
) -> Iterator[RequeueResult]:
    """Move the selected files back, and yield each result. ``report`` gets a sentence for each inbox that is unavailable.

    Raises SettingsError for an inbox or a file that does not exist, and FolderUnavailable for a file in an unavailable inbox.
    """
    _check_selection(settings, selection)
    if selection.files:
        for inbox, failures in _select_by_path(settings, selection.files):
            yield from _requeue_each(inbox, failures, dry_run=dry_run)
        return
    for name in selection.inboxes or settings.inbox:
        inbox = settings.inbox[name]
        try:
            yield from _requeue_each(inbox, _select_by_reason(inbox, selection.error), dry_run=dry_run)
        except FolderUnavailable as error:
            report(f"{name}: {error}")


def requeue_paths(settings: Settings, inbox_name: str, paths: Sequence[bytes]) -> Iterator[RequeueResult]:
    """Move the files at these paths in an inbox's failed/ back, and yield each result; a path that leads out is refused.

    Raises SettingsError for an unknown inbox or root's own call, FolderUnavailable if a folder is missing.
    """
    _check_selection(settings, Selection(inboxes=(inbox_name,)))
    inbox = settings.inbox[inbox_name]
    failures: list[FailedFile] = []
    with open_folders(Disk(), inbox.root) as folders:
        for path in paths:
            try:
                found = find_failed_file(Disk(), folders, path)
            except (OSError, ValueError) as error:
                yield RequeueResult(inbox_name, FailedFile(path, None), None, str(error))
                continue
            if found is None or (found.is_folder and found.note is None):
                yield RequeueResult(inbox_name, FailedFile(path, None), None, "the file is no longer in failed/")
            else:
                failures.append(found)
    yield from _requeue_each(inbox, failures, dry_run=False)


def _check_selection(settings: Settings, selection: Selection) -> None:
    findings = [
        Finding(f"--inbox {name}", "is not an inbox in the settings", f"use one of: {', '.join(settings.inbox)}")
        for name in selection.inboxes
        if name not in settings.inbox
    ]
    for name, inbox in settings.inbox.items():
        owner = _owner_uid(inbox)
        if os.geteuid() == 0 and owner:  # the service could not claim files from folders that root creates in inbox/
            remedy = f"run the command as the service's user: sudo -u '#{owner}' inboxd retry …"
            findings.append(Finding(f"inbox.{name}.root", "the folders belong to the service, and you are root", remedy))
    if findings:
        raise SettingsError(findings)


def _owner_uid(inbox: Inbox) -> int:
    try:
        with open_folders(Disk(), inbox.root) as folders:
            return Disk().fstat(folders.claimed).uid
    except FolderUnavailable:
        return 0


def _select_by_path(settings: Settings, files: Sequence[str]) -> Iterator[tuple[Inbox, list[FailedFile]]]:
    """Yield for each inbox the failed files at these paths; a sub-folder stands for all files in it."""
    selected: dict[str, dict[bytes, FailedFile]] = {}
    findings = []
    for typed_path in files:
        found = [
            (spool_path.inbox, failure)
            for spool_path in find_spool_paths(settings, typed_path)
            for failure in _list_failures(settings, spool_path.inbox, spool_path.path)
        ]
        if not found:
            remedy = "give the path of a file in failed/; to find out where a file is, run: inboxd explain PATH"
            findings.append(Finding(typed_path, "no failed file has this path", remedy))
        for inbox, failure in found:
            selected.setdefault(inbox, {})[failure.path] = failure
    if findings:
        raise SettingsError(findings)
    for inbox, failures in selected.items():
        yield settings.inbox[inbox], list(failures.values())


def _list_failures(settings: Settings, inbox: str, path: bytes) -> list[FailedFile]:
    with open_folders(Disk(), settings.inbox[inbox].root) as folders:
        found = find_failed_file(Disk(), folders, path)
        if found is None and path.endswith(SUFFIX):  # the path of an error note
            found = find_failed_file(Disk(), folders, path.removesuffix(SUFFIX))
        if found and found.is_folder and found.note is None:
            return [failure for failure in list_failed_files(Disk(), folders) if failure.path.startswith(path + b"/")]
        return [found] if found else []


def _select_by_reason(inbox: Inbox, pattern: str) -> list[FailedFile]:
    with open_folders(Disk(), inbox.root) as folders:
        return [failure for failure in list_failed_files(Disk(), folders) if _has_reason(failure, pattern)]


def _has_reason(failure: FailedFile, pattern: str) -> bool:
    reason = failure.note.reason if failure.note else ""
    return fnmatch.fnmatchcase(reason.lower(), pattern.lower())


def _requeue_each(inbox: Inbox, failures: Sequence[FailedFile], *, dry_run: bool) -> Iterator[RequeueResult]:
    disk = Disk()
    with open_folders(disk, inbox.root) as folders:
        for failure in sorted(failures, key=lambda failure: failure.path):
            if dry_run:
                yield RequeueResult(inbox.name, failure, failure.original_path)
                continue
            try:
                new_path = requeue(disk, folders, failure)
            except OSError as error:
                yield RequeueResult(inbox.name, failure, None, error.strerror or str(error))
                continue
            if new_path is None:
                yield RequeueResult(inbox.name, failure, None, "the file is no longer in failed/")
                continue
            _log_requeued(inbox, failure, new_path)
            yield RequeueResult(inbox.name, failure, new_path)


def _log_requeued(inbox: Inbox, failure: FailedFile, new_path: bytes) -> None:
    note = failure.note
    _log.info(
        events.FILE_REQUEUED, inbox=inbox.name, file=new_path, filed=failure.path, parcel=note.parcel if note else None,
        attempt=note.attempts if note else None, reason=note.reason if note else None,
        earlier=len(note.earlier) if note else None,
    )  # fmt: skip


def render_result(result: RequeueResult) -> str:
    """Return a result as one line for a person."""
    name = escape(f"{result.inbox}: ") + escape(result.failure.path)
    if result.new_path is None:
        return f"{name}: not moved: {escape(result.problem)}"
    reason = f" (failure reason: {escape(result.failure.note.reason)})" if result.failure.note else ""
    return f"{name} -> inbox/{escape(result.new_path)}{reason}"
