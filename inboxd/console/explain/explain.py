"""Explain why a file is where it is. Reads only: no file, folder or Redis key is changed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.console.explain.context import ExplainContext
from inboxd.console.explain.parcel import explain_parcel
from inboxd.console.paths import FOLDERS, SpoolPath, find_spool_paths, quote_for_shell
from inboxd.console.times import format_local
from inboxd.errors import FolderUnavailable
from inboxd.fs.bounded import run_on_mounts
from inboxd.fs.folders import opened_path
from inboxd.fs.mounts import find_mount
from inboxd.fs.rename import exists
from inboxd.fs.syscalls import Fd, FileKind, closing
from inboxd.intake.in_flight import InFlight
from inboxd.intake.readiness import Ignore, Ready, Refuse, Wait
from inboxd.intake.scan import DeniedEntry, ScannedEntry, scan_path
from inboxd.intake.sub_mounts import SubMounts
from inboxd.intake.watch_mode import describe_sub_mount, wait_times
from inboxd.logs.text import count_in_words, escape
from inboxd.spool.claims import MOVED_AWAY, list_parcels, open_folder_of
from inboxd.spool.error_note import SUFFIX
from inboxd.spool.layout import OUT, Folders, is_parcel_id, open_folders, split_path
from inboxd.spool.requeue import find_failed_file

MOUNT_SECONDS = 5.0
"""Maximum time to look at a file on a network or FUSE mount."""

EXPECTED_WITHIN_SECONDS = 30.0
"""Time within which the watcher claims a complete file that nothing blocks, in seconds."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a file is where it is.

    ``folder`` is inbox, claimed, done, failed or out, and ``path`` the path below it; ``state`` is a fixed word for programs,
    ``sentences`` are for people; ``until`` is when the file is checked again, ``since`` when it came there, both unix seconds.
    """

    inbox: str
    folder: str
    path: bytes
    state: str
    sentences: list[str]
    since: float | None = None
    until: float | None = None
    facts: dict[str, object] = field(default_factory=dict)


def explain(settings: Settings, typed_path: str) -> list[Explanation]:
    """Explain every file that a typed path can mean; [] if there is none.

    Raises OSError, and FolderUnavailable if an inbox that may have the file is missing and no other one has it.
    """
    context = ExplainContext(settings)
    found: list[Explanation] = []
    unavailable: FolderUnavailable | None = None
    for spool_path in find_spool_paths(settings, typed_path):
        try:
            root = settings.inbox[spool_path.inbox].root
            found += run_on_mounts(context.disk, root, partial(_explain_all, context, spool_path), MOUNT_SECONDS)
        except FolderUnavailable as error:
            unavailable = error
    if unavailable and not found:
        raise unavailable
    return found


def _explain_all(context: ExplainContext, spool_path: SpoolPath) -> list[Explanation]:
    return list(_explain(context, spool_path))


def _explain(context: ExplainContext, spool_path: SpoolPath) -> Iterator[Explanation]:
    """Explain the file in the folder that the path names; if it is not there, search the inbox's other folders."""
    inbox = context.settings.inbox[spool_path.inbox]
    path = spool_path.path
    with open_folders(context.disk, inbox.root) as folders:
        if spool_path.folder == "claimed" and is_parcel_id((first := path.partition(b"/")[0]).decode("ascii", "replace")):
            path = path[len(first) + 1 :]
        elif spool_path.folder == "failed" and find_failed_file(context.disk, folders, path) is None:
            path = path.removesuffix(SUFFIX)  # the path may be that of an error note
        if not path:
            return
        for folder in sorted(FOLDERS, key=lambda folder: folder != spool_path.folder):
            found = list(_EXPLAINERS[folder](context, inbox, folders, path))
            yield from found
            if found and folder == spool_path.folder:
                return


def _explain_in_inbox(context: ExplainContext, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    waits = wait_times(inbox, find_mount(context.disk, folders.inbox))
    sub_mounts = SubMounts(context.disk, inbox, reads_only=True)
    match scan_path(context.disk, folders.inbox, path, inbox, waits, time.time, sub_mounts=sub_mounts):
        case None:
            return
        case DeniedEntry(_, error):
            why = ["inboxd has no access to the file: " + (error.strerror or str(error))]
            why += ["give the service's user or group access to the folder that the file is in"]
            yield Explanation(inbox.name, "inbox", path, "denied", why)
        case ScannedEntry(entry, Ignore(why), _):
            prefix = "" if entry == path else f"{escape(entry)}/ is not scanned: "
            yield Explanation(inbox.name, "inbox", path, "ignored", [prefix + why])
        case ScannedEntry(_, Refuse(failure), _):
            yield Explanation(inbox.name, "inbox", path, "refused", [failure.reason, "the next scan moves the file to failed/"])
        case ScannedEntry(_, Wait(until, why), stat):
            mounts = [describe_sub_mount(inbox, folder, mount) for folder, mount in sub_mounts.mounts.items()]
            sentences = [f"not complete yet: {why}", *mounts, *_blocking_reasons(context, inbox, folders)]
            since = stat.ctime_ns / 1e9 if stat else None
            yield Explanation(inbox.name, "inbox", path, "waiting", sentences, since, until)
        case ScannedEntry(_, Ready(), stat):
            yield _explain_ready(context, inbox, folders, path, stat.ctime_ns / 1e9 if stat else time.time())


def _explain_ready(context: ExplainContext, inbox: Inbox, folders: Folders, path: bytes, since: float) -> Explanation:
    reasons = _blocking_reasons(context, inbox, folders)
    report = context.report(inbox.name)
    if not reasons and report and report.is_busy:
        reasons = ["the watcher claims other files first: more files are complete than it can claim at once"]
    state = "held back" if reasons else "ready"
    if not reasons:
        reasons = ["nothing blocks the file: the watcher's next scan claims it"]
        if time.time() - since > EXPECTED_WITHIN_SECONDS:
            reasons += ["the file should have been claimed by now: search the log for file_denied, and run `inboxd check`"]
    return Explanation(inbox.name, "inbox", path, state, ["the file is complete", *reasons], since)


def _blocking_reasons(context: ExplainContext, inbox: Inbox, folders: Folders) -> list[str]:
    """Return what prevents every complete file of this inbox from being claimed now."""
    if context.broker_error:
        return [f"the broker is unavailable, and no file is claimed until it answers: {context.broker_error}"]
    reasons = []
    if outage := context.outages.get(inbox.name):
        reasons.append(f"no file is claimed as long as finished files can't be filed: {outage}")
    report = context.report(inbox.name)
    if report is None:
        reasons.append("no watcher heartbeat: only sweeps claim files, if beat and a worker run; start the watcher")
    elif report.outage and not outage:
        reasons.append(f"the watcher can't scan this inbox: {report.outage}")
    in_flight = InFlight(inbox)
    in_flight.refresh(context.disk, folders)
    if in_flight.capacity <= 0:
        reasons.append(
            f"{inbox.in_flight_files_max} files of this inbox are in flight (in_flight_files_max): one must be filed first"
        )
    return reasons


def _explain_in_claimed(context: ExplainContext, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    for parcel in list_parcels(context.disk, folders):
        try:
            at, name = open_folder_of(context.disk, folders, parcel, path)
        except OSError as error:
            if error.errno in MOVED_AWAY:
                continue
            raise
        with closing(context.disk, at):
            if not exists(context.disk, at, name):
                continue
        found = explain_parcel(context, inbox, folders, parcel)
        yield Explanation(inbox.name, "claimed", path, found.state, found.sentences, found.since, found.until, found.facts)


def _explain_in_done(context: ExplainContext, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    if (since := _since_when(context, folders.done, path)) is not None:
        sentences = [
            f"the handler succeeded, and the file was moved here at {format_local(since)}",
            f"to see every step of the file: inboxd trace {quote_for_shell(path)}",
        ]
        yield Explanation(inbox.name, "done", path, "done", sentences, since)


def _explain_in_out(context: ExplainContext, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    with opened_path(context.disk, folders.done, (b"..",)) as root:
        since = _since_when(context, root, OUT + b"/" + path)
    if since is not None:
        sentences = [
            f"a handler made it, and it was moved here at {format_local(since)}; inboxd does not touch it any more",
            f"to see of which file it was made: inboxd log --inbox {inbox.name} --json | grep output_delivered",
        ]
        yield Explanation(inbox.name, "out", path, "output", sentences, since)


def _since_when(context: ExplainContext, folder: Fd, path: bytes) -> float | None:
    """Return since when a file has been in a folder, in unix seconds; None if it is not there."""
    parts, name = split_path(path)
    try:
        with opened_path(context.disk, folder, parts) as at:
            stat = context.disk.stat(at, name)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return None
        raise
    return None if stat.kind is FileKind.FOLDER else stat.ctime_ns / 1e9


def _explain_in_failed(context: ExplainContext, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    failure = find_failed_file(context.disk, folders, path)
    if failure is None or (failure.is_folder and failure.note is None):
        return
    note = failure.note
    remedy = "correct the cause, then run: inboxd retry " + quote_for_shell(bytes(inbox.root / "failed") + b"/" + path)
    if note is None:
        yield Explanation(inbox.name, "failed", path, "failed", ["the file failed; its error note is missing", remedy])
        return
    tried = f"tried {count_in_words(note.attempts)}" if note.attempts else "the handler was not called"
    sentences = [
        *([f"dropped as {escape(note.path)}"] if note.path != path else []),
        f"reason: {note.reason}",
        f"failed at {note.failed_at}; {tried}",
        *(f"earlier failure: {line}" for line in note.earlier),
        remedy,
    ]
    facts = {
        "parcel": note.parcel,
        "kind": note.kind,
        "reason": note.reason,
        "attempts": note.attempts,
        "earlier": list(note.earlier),
    }
    yield Explanation(inbox.name, "failed", path, "failed", sentences, facts=facts)


_EXPLAINERS = {
    "inbox": _explain_in_inbox,
    "claimed": _explain_in_claimed,
    "done": _explain_in_done,
    "failed": _explain_in_failed,
    "out": _explain_in_out,
}


def render_explanation(explanation: Explanation) -> Iterator[str]:
    """Yield an explanation's lines for a person."""
    yield escape(f"{explanation.inbox}: {explanation.folder}/") + escape(explanation.path) + f": {explanation.state}"
    for sentence in explanation.sentences:
        yield escape(f"  {sentence}")
    if explanation.until is not None:
        yield f"  checked again at {format_local(explanation.until)}, in {max(explanation.until - time.time(), 0.0):.1f} s"


def to_json(explanation: Explanation) -> dict[str, object]:
    """Return an explanation as a JSON object. The keys are a public interface: keys may be added, none renamed."""
    return {
        "inbox": explanation.inbox,
        "folder": explanation.folder,
        "file": escape(explanation.path),
        "state": explanation.state,
        "why": [escape(sentence) for sentence in explanation.sentences],
        "since": explanation.since,
        "until": explanation.until,
        **explanation.facts,
    }
