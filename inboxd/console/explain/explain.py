"""What `inboxd explain` finds: why a file is (still) where it is. Only looks; nothing that it does leaves a trace."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from inboxd.config.settings import Inbox, Settings
from inboxd.console.explain.context import Surroundings
from inboxd.console.explain.in_flight import told_of_parcel
from inboxd.console.paths import TOPS, Spot, as_typed, spots
from inboxd.console.times import local
from inboxd.fs.folders import opened_path
from inboxd.fs.mounts import find_mount_of_path
from inboxd.fs.syscalls import FileKind, closing
from inboxd.intake.in_flight import Flight
from inboxd.intake.readiness import Ignore, Ready, Refuse, Wait
from inboxd.intake.scan import Denied, Seen, look_at
from inboxd.intake.watch_mode import patience
from inboxd.logs.text import count_in_words, escape
from inboxd.spool.claims import MOVED_AWAY, list_parcels, open_folder_of
from inboxd.spool.error_note import SUFFIX
from inboxd.spool.filing import exists
from inboxd.spool.layout import Folders, is_parcel_id, open_folders, split_path
from inboxd.spool.requeue import find_failed_file

SOON_SECONDS = 30.0
"""A complete file is taken within this, if nothing holds it back."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something is where it is.

    ``top`` is inbox, claimed, done or failed, and ``path`` the path below it; ``state`` is one word for programs, ``why`` has
    sentences for people; ``until`` is when it will be looked at next, and ``since`` when it came there, both unix seconds.
    """

    inbox: str
    top: str
    path: bytes
    state: str
    why: list[str]
    since: float | None = None
    until: float | None = None
    facts: dict[str, object] = field(default_factory=dict)


def explain(settings: Settings, typed: str) -> list[Explanation]:
    """Explain what a typed path means; [] if nothing is known of it. Raises FolderAway, OSError."""
    surroundings = Surroundings(settings)
    return [found for spot in spots(settings, typed) for found in _explain(surroundings, spot)]


def _explain(surroundings: Surroundings, spot: Spot) -> Iterator[Explanation]:
    """Look where the path says; and if it is not there, where else it could be by now."""
    inbox = surroundings.settings.inbox[spot.inbox]
    path = spot.path
    with open_folders(surroundings.disk, inbox.root) as folders:
        if spot.top == "claimed" and is_parcel_id((first := path.partition(b"/")[0]).decode("ascii", "replace")):
            path = path[len(first) + 1 :]
        elif spot.top == "failed" and find_failed_file(surroundings.disk, folders, path) is None:
            path = path.removesuffix(SUFFIX)  # perhaps its note was named
        if not path:
            return
        for top in sorted(TOPS, key=lambda top: top != spot.top):
            found = list(_EXPLAINERS[top](surroundings, inbox, folders, path))
            yield from found
            if found and top == spot.top:
                return


# inbox/


def _in_inbox(surroundings: Surroundings, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    calm = patience(inbox, find_mount_of_path(surroundings.disk, inbox.root))
    match look_at(surroundings.disk, folders.inbox, path, inbox, calm, time.time):
        case None:
            return
        case Denied(_, error):
            why = ["the system does not let inboxd look at it: " + (error.strerror or str(error))]
            yield Explanation(inbox.name, "inbox", path, "denied", [*why, "let its folder belong to the service, or its group"])
        case Seen(seen, Ignore(why), _):
            above = "" if seen == path else f"{escape(seen)}/ is not looked into: "
            yield Explanation(inbox.name, "inbox", path, "ignored", [above + why])
        case Seen(_, Refuse(why), _):
            yield Explanation(inbox.name, "inbox", path, "refused", [why, "the next look moves it to failed/"])
        case Seen(_, Wait(until, why), look):
            held_back = _held_back(surroundings, inbox, folders)
            since = look.ctime_ns / 1e9 if look else None
            yield Explanation(inbox.name, "inbox", path, "waiting", [f"not complete yet: {why}", *held_back], since, until)
        case Seen(_, Ready(), look):
            yield _ready(surroundings, inbox, folders, path, look.ctime_ns / 1e9 if look else time.time())


def _ready(surroundings: Surroundings, inbox: Inbox, folders: Folders, path: bytes, since: float) -> Explanation:
    why = _held_back(surroundings, inbox, folders)
    watched = surroundings.watched(inbox.name)
    if not why and watched and watched.is_busy:
        why = ["others are before it: the watcher has more to take than fits at once"]
    state = "held back" if why else "ready"
    if not why:
        why = ["nothing holds it back: it is taken at the watcher's next look"]
        if time.time() - since > SOON_SECONDS:
            why += ["it should have been taken by now: look for file_denied in the log, and run `inboxd check`"]
    return Explanation(inbox.name, "inbox", path, state, ["it is complete", *why], since)


def _held_back(surroundings: Surroundings, inbox: Inbox, folders: Folders) -> list[str]:
    """Return what keeps every complete file of this inbox from being taken just now."""
    if surroundings.away:
        return [f"the broker is away, and nothing is claimed until it answers: {surroundings.away}"]
    found = []
    if trouble := surroundings.troubles.get(inbox.name):
        found.append(f"nothing more is claimed while what is finished can't be filed: {trouble}")
    watched = surroundings.watched(inbox.name)
    if watched is None:
        found.append("no watcher gives a sign of life; only the sweep takes files, if beat and a worker run")
    elif watched.outage and not trouble:
        found.append(f"the watcher can't look into this inbox: {watched.outage}")
    flight = Flight(inbox)
    flight.look(surroundings.disk, folders)
    if flight.room <= 0:
        found.append(
            f"{inbox.in_flight_files_max} files of this inbox are in flight (in_flight_files_max): one has to return first"
        )
    return found


# claimed/, done/, failed/


def _in_claimed(surroundings: Surroundings, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
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
        told = told_of_parcel(surroundings, inbox, folders, parcel)
        yield Explanation(inbox.name, "claimed", path, told.state, told.why, told.since, told.until, told.facts)


def _in_done(surroundings: Surroundings, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
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
        why = [f"it went well, and was filed at {local(since)}", f"for its way, ask: inboxd trace {as_typed(path)}"]
        yield Explanation(inbox.name, "done", path, "done", why, since)


def _in_failed(surroundings: Surroundings, inbox: Inbox, folders: Folders, path: bytes) -> Iterator[Explanation]:
    failure = find_failed_file(surroundings.disk, folders, path)
    if failure is None or (failure.is_folder and failure.note is None):
        return
    told = failure.note
    back = "mend that, then: inboxd retry " + as_typed(bytes(inbox.root / "failed") + b"/" + path)
    if told is None:
        yield Explanation(inbox.name, "failed", path, "failed", ["it failed, and its note is gone", back])
        return
    tried = f"tried {count_in_words(told.attempts)}" if told.attempts else "it was not worked on"
    why = [f"failed of: {told.reason}", f"at {told.failed_at}; {tried}", *(f"earlier: {line}" for line in told.earlier), back]
    facts = {"parcel": told.parcel, "reason": told.reason, "attempts": told.attempts, "earlier": list(told.earlier)}
    if told.path != path:
        why.insert(0, f"it was dropped as {escape(told.path)}")
    yield Explanation(inbox.name, "failed", path, "failed", why, facts=facts)


_EXPLAINERS = {"inbox": _in_inbox, "claimed": _in_claimed, "done": _in_done, "failed": _in_failed}


# for people and for programs


def shown(explanation: Explanation) -> Iterator[str]:
    """Yield an explanation's lines for a person."""
    yield escape(f"{explanation.inbox}: {explanation.top}/") + escape(explanation.path) + f": {explanation.state}"
    for sentence in explanation.why:
        yield escape(f"  {sentence}")
    if explanation.until is not None:
        yield f"  looked at again at {local(explanation.until)}, in {max(explanation.until - time.time(), 0.0):.1f} s"


def as_json(explanation: Explanation) -> dict[str, object]:
    """Return an explanation in JSON's types. The keys are an interface: some may be added, none renamed."""
    return {
        "inbox": explanation.inbox,
        "folder": explanation.top,
        "file": escape(explanation.path),
        "state": explanation.state,
        "why": [escape(sentence) for sentence in explanation.why],
        "since": explanation.since,
        "until": explanation.until,
        **explanation.facts,
    }
