"""The installations that use a namespace: two whose inboxes have the same name and other settings would mix up their files.

Each installation registers itself in Redis and is forgotten FORGOTTEN_SECONDS after its last registration. The one that came
first may stay; the other one is refused, and needs a ``redis.namespace`` of its own.
"""

import hashlib
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import cast

import redis

from inboxd.broker import lua
from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.forgiving import DECODE_ERRORS, finite_number
from inboxd.broker.server_checks import find_open_doors
from inboxd.config.settings import Settings
from inboxd.errors import NamespaceConflict, SettingsError
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape

KEY = "inboxd:installations"
EVERY_SECONDS = 10.0
"""Interval between two registrations of a program, in seconds."""
FORGOTTEN_SECONDS = 35.0
NAMESPACE_REMEDY = (
    "give each installation on this Redis a redis.namespace of its own, or give inboxes of the same name the same settings; an "
    f"installation that has ended is forgotten after {FORGOTTEN_SECONDS:.0f} s"
)
_MACHINE_ID = Path("/etc/machine-id")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Installation:
    """What an installation says about itself: its machine and settings file, and each inbox's root and handler.

    ``host`` is the setting: inboxes of two installations with the same one must have the same roots.
    """

    id: str
    machine: str
    file: str
    host: str
    inboxes: Mapping[str, tuple[str, str]]

    def conflict_with(self, other: "Installation") -> str:
        """Return why the files of both would be mixed up, "" if they would not."""
        for name in sorted(self.inboxes.keys() & other.inboxes.keys()):
            (root, handler), (other_root, other_handler) = self.inboxes[name], other.inboxes[name]
            if self.host == other.host and root != other_root:
                return f"inbox {name} there has the root {other_root}, here {root}"
            if handler != other_handler:
                return (
                    f"inbox {name} there has the handler {other_handler} and the root {other_root}, here {handler} and {root}"
                )
        return ""


def describe_installation(settings: Settings, file: PurePath) -> Installation:
    """Return this installation; its id depends on the machine, the settings file, and ``state_dir``."""
    machine = socket.gethostname()
    try:
        identity = _MACHINE_ID.read_text("ascii", "replace")
    except OSError:
        identity = ""
    path = str(Path(file).resolve())
    identifying = f"{identity}\0{machine}\0{path}\0{settings.state_dir}".encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(identifying, digest_size=8).hexdigest()
    inboxes = {name: (str(inbox.root), inbox.handled_by) for name, inbox in settings.inbox.items()}
    return Installation(digest, machine, path, settings.host, inboxes)


def find_conflict(client: redis.Redis, own: Installation) -> str:
    """Return a sentence about an installation that came first and conflicts with this one, "" if none does.

    Raises BrokerUnavailable.
    """
    return _first_conflict(own, _decode(_call(client, "")))


def _call(client: redis.Redis, value: str, own_id: str = "") -> list[bytes]:
    with translate_redis_errors():
        reply = client.register_script(lua.REGISTER_INSTALLATION)(
            keys=[KEY], args=[int(FORGOTTEN_SECONDS * 1000), own_id, value]
        )
    return cast("list[bytes]", reply)


class Registration:
    """One program's part in the registration of its installation."""

    def __init__(self, client: redis.Redis, settings: Settings, describe: Callable[[], Installation]) -> None:
        """``describe`` is called for each registration: a reload changes the settings."""
        self._client = client
        self._settings = settings
        self._describe = describe
        self._is_registered = False
        self._conflict = ""

    def register(self) -> None:
        """Register, or renew the registration. Raises BrokerUnavailable.

        The first time it raises NamespaceConflict while another one is there that came first, and SettingsError if other hosts
        need no password for the server. Once registered it raises neither: a conflict after a reload is logged, since several
        hosts may reload in turn.
        """
        own = self._describe()
        if not self._is_registered:
            if findings := [finding for finding in find_open_doors(self._settings) if finding.blocks]:
                raise SettingsError(findings)
            _raise_if(find_conflict(self._client, own))
        conflict = _first_conflict(own, _decode(_call(self._client, _encode(own), own.id)))
        if conflict and not self._is_registered:  # both began at the same time
            with translate_redis_errors():
                self._client.hdel(KEY, own.id)
            _raise_if(conflict)
        self._is_registered = True
        if conflict and conflict != self._conflict:
            _log.error(events.INSTALLATION_CONFLICT, why=conflict, remedy=NAMESPACE_REMEDY)
        self._conflict = conflict


def _raise_if(conflict: str) -> None:
    if conflict:
        raise NamespaceConflict(f"redis.namespace: {conflict}")


def _encode(installation: Installation) -> str:
    return json.dumps([installation.machine, installation.file, installation.host, installation.inboxes])


def _decode(reply: Sequence[bytes]) -> list[tuple[float, Installation]]:
    """Return time of the first registration (ms) and installation, of what other programs have not made unreadable."""
    found = []
    for own_id, value in zip(reply[::2], reply[1::2], strict=True):
        try:
            since, _, table = value.decode("utf-8").split(" ", 2)
            machine, file, host, inboxes = json.loads(table)
            pairs = {str(name): (str(root), str(handler)) for name, (root, handler) in inboxes.items()}
            found.append(
                (finite_number(float(since)), Installation(own_id.decode(), str(machine), str(file), str(host), pairs))
            )
        except DECODE_ERRORS:
            continue
    return found


def _first_conflict(own: Installation, found: Sequence[tuple[float, Installation]]) -> str:
    own_rank = next(((since, other.id) for since, other in found if other.id == own.id), (float("inf"), own.id))
    for since, other in sorted(found, key=lambda pair: (pair[0], pair[1].id)):
        if other.id != own.id and (since, other.id) < own_rank and (why := own.conflict_with(other)):
            who = f"the installation of {other.file} on {other.machine} (id {other.id})"
            return escape(f"{who} uses the same namespace, and {why}").replace("\n", "\\n")
    return ""
