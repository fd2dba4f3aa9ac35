"""What `inboxd explain` finds: why a file is (still) where it is. Only looks; nothing that it does leaves a trace."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from inboxd.config.settings import Inbox, Settings
from inboxd.console.explain.context import ExplainContext
from inboxd.console.explain.in_flight import explain_parcel
from inboxd.console.paths import FOLDERS, SpoolPath, find_spool_paths, quote_for_shell
from inboxd.console.times import format_local
from inboxd.fs.folders import opened_path
from inboxd.fs.mounts import find_mount_of_path
from inboxd.fs.syscalls import FileKind, closing
from inboxd.intake.in_flight import InFlight
from inboxd.intake.readiness import Ignore, Ready, Refuse, Wait
from inboxd.intake.scan import DeniedEntry, ScannedEntry, scan_path
from inboxd.intake.watch_mode import wait_times
from inboxd.logs.text import count_in_words, escape
from inboxd.spool.claims import MOVED_AWAY, list_parcels, open_folder_of
from inboxd.spool.error_note import SUFFIX
from inboxd.spool.filing import exists
from inboxd.spool.layout import Folders, is_parcel_id, open_folders, split_path
from inboxd.spool.requeue import find_failed_file

EXPECTED_WITHIN_SECONDS = 30.0
"""A complete file is taken within this, if nothing holds it back."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something is where it is.

    ``top`` is inbox, claimed, done or failed, and ``path`` the path below it; ``state`` is one word for programs, ``why`` has
    sentences for people; ``until`` is when it will be looked at next, and ``since`` when it came there, both unix seconds.
    """

    inbox: str
    folder: str
    path: bytes
    state: str
    sentences: list[str]
    since: float | None = None
    until: float | None = None
    facts: dict[str, object] = field(default_factory=dict)


def explain(settings: Settings, typed: str) -> list[Explanation]:
    """Explain what a typed path means; [] if nothing is known of it. Raises FolderAway, OSError."""
    surroundings = ExplainContext(settings)
    return [found for spot in find_spool_paths(settings, typed) for found in _explain(surroundings, spot)]


def _explain(surroundings: ExplainContext, spot: SpoolPath) -> Iterator[Explanation]:
    """Look where the path says; and if it is not there, where else it could be by now."""
    inbox = surroundings.settings.inbox[spot.inbox]
    path = spot.path
    with open_folders(surroundings.disk, inbox.root) as folders:
        if spot.folder == "claimed" and is_parcel_id((first := path.partition(b"/")[0]).decode("ascii", "replace")):
            path = path[len(first) + 1 :]
        elif spot.folder == "failed" and find_failed_file(surroundings.disk, folders, path) is None:
            path = path.removesuffix(SUFFIX)  # perhaps its note was named
        if not path:
            return
        for top in sorted(FOLDERS, key=lambda top: top != spot.folder):
            found = list(_EXPLAINERS[top](surroundings, inbox, folders, path))
            yield from found
            if found and top == spot.folder:
                return


# inbox/


def _explain_in_inbox(surroundings: ExplainContext, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    calm = wait_times(inbox, find_mount_of_path(surroundings.disk, inbox.root))
    match scan_path(surroundings.disk, folders.inbox, path, inbox, calm, time.time):
        case None:
            return
        case DeniedEntry(_, error):
            why = ["the system does not let inboxd look at it: " + (error.strerror or str(error))]
            yield Explanation(inbox.name, "inbox", path, "denied", [*why, "let its folder belong to the service, or its group"])
        case ScannedEntry(seen, Ignore(why), _):
            above = "" if seen == path else f"{escape(seen)}/ is not looked into: "
            yield Explanation(inbox.name, "inbox", path, "ignored", [above + why])
        case ScannedEntry(_, Refuse(why), _):
            yield Explanation(inbox.name, "inbox", path, "refused", [why, "the next look moves it to failed/"])
        case ScannedEntry(_, Wait(until, why), look):
            held_back = _blocking_reasons(surroundings, inbox, folders)
            since = look.ctime_ns / 1e9 if look else None
            yield Explanation(inbox.name, "inbox", path, "waiting", [f"not complete yet: {why}", *held_back], since, until)
        case ScannedEntry(_, Ready(), look):
            yield _explain_ready(surroundings, inbox, folders, path, look.ctime_ns / 1e9 if look else time.time())


def _explain_ready(surroundings: ExplainContext, inbox: Inbox, folders: Folders, path: bytes, since: float) -> Explanation:
    why = _blocking_reasons(surroundings, inbox, folders)
    watched = surroundings.report(inbox.name)
    if not why and watched and watched.is_busy:
        why = ["others are before it: the watcher has more to take than fits at once"]
    state = "held back" if why else "ready"
    if not why:
        why = ["nothing holds it back: it is taken at the watcher's next look"]
        if time.time() - since > EXPECTED_WITHIN_SECONDS:
            why += ["it should have been taken by now: look for file_denied in the log, and run `inboxd check`"]
    return Explanation(inbox.name, "inbox", path, state, ["it is complete", *why], since)


def _blocking_reasons(surroundings: ExplainContext, inbox: Inbox, folders: Folders) -> list[str]:
    """Return what keeps every complete file of this inbox from being taken just now."""
    if surroundings.broker_error:
        return [f"the broker is away, and nothing is claimed until it answers: {surroundings.broker_error}"]
    found = []
    if trouble := surroundings.outages.get(inbox.name):
        found.append(f"nothing more is claimed while what is finished can't be filed: {trouble}")
    watched = surroundings.report(inbox.name)
    if watched is None:
        found.append("no watcher gives a sign of life; only the sweep takes files, if beat and a worker run")
    elif watched.outage and not trouble:
        found.append(f"the watcher can't look into this inbox: {watched.outage}")
    flight = InFlight(inbox)
    flight.refresh(surroundings.disk, folders)
    if flight.capacity <= 0:
        found.append(
            f"{inbox.in_flight_files_max} files of this inbox are in flight (in_flight_files_max): one has to return first"
        )
    return found


# claimed/, done/, failed/


def _explain_in_claimed(surroundings: ExplainContext, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    for parcel in list_parcels(surroundings.disk, folders):
        try:
            at, name = open_folder_of(surroundings.disk, folders, parcel, path)
        except OSError as error:
            if error.errno in MOVED_AWAY:
                continue
            raise
        with closing(surroundings.disk, at):
            if not exists(surroundings.disk, at, name):
                continue
        told = explain_parcel(surroundings, inbox, folders, parcel)
        yield Explanation(inbox.name, "claimed", path, told.state, told.sentences, told.since, told.until, told.facts)


def _explain_in_done(surroundings: ExplainContext, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    parts, name = split_path(path)
    try:
        with opened_path(surroundings.disk, folders.done, parts) as at:
            look = surroundings.disk.stat(at, name)
    except OSError as error:
        if error.errno in MOVED_AWAY:
            return
        raise
    if look.kind is not FileKind.FOLDER:
        since = look.ctime_ns / 1e9
        why = [
            f"it went well, and was filed at {format_local(since)}",
            f"for its way, ask: inboxd trace {quote_for_shell(path)}",
        ]
        yield Explanation(inbox.name, "done", path, "done", why, since)


def _explain_in_failed(surroundings: ExplainContext, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    failure = find_failed_file(surroundings.disk, folders, path)
    if failure is None or (failure.is_folder and failure.note is None):
        return
    told = failure.note
    back = "mend that, then: inboxd retry " + quote_for_shell(bytes(inbox.root / "failed") + b"/" + path)
    if told is None:
        yield Explanation(inbox.name, "failed", path, "failed", ["it failed, and its note is gone", back])
        return
    tried = f"tried {count_in_words(told.attempts)}" if told.attempts else "it was not worked on"
    why = [f"failed of: {told.reason}", f"at {told.failed_at}; {tried}", *(f"earlier: {line}" for line in told.earlier), back]
    facts = {"parcel": told.parcel, "reason": told.reason, "attempts": told.attempts, "earlier": list(told.earlier)}
    if told.path != path:
        why.insert(0, f"it was dropped as {escape(told.path)}")
    yield Explanation(inbox.name, "failed", path, "failed", why, facts=facts)


_EXPLAINERS = {
    "inbox": _explain_in_inbox,
    "claimed": _explain_in_claimed,
    "done": _explain_in_done,
    "failed": _explain_in_failed,
}


# for people and for programs


def render_explanation(explanation: Explanation) -> Iterator[str]:
    """Yield an explanation's lines for a person."""
    yield escape(f"{explanation.inbox}: {explanation.folder}/") + escape(explanation.path) + f": {explanation.state}"
    for sentence in explanation.sentences:
        yield escape(f"  {sentence}")
    if explanation.until is not None:
        yield f"  looked at again at {format_local(explanation.until)}, in {max(explanation.until - time.time(), 0.0):.1f} s"


def to_json(explanation: Explanation) -> dict[str, object]:
    """Return an explanation in JSON's types. The keys are an interface: some may be added, none renamed."""
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
