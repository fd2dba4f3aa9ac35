"""The services' sandbox follows the settings: each inbox's root may be written, and nothing else is."""

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from inboxd.config.settings import Settings
from inboxd.console.systemd.places import FOLDER_SERVICES, InstallPaths
from inboxd.errors import Finding
from inboxd.logs.text import escape

HOMES = (PurePath("/home"), PurePath("/root"), PurePath("/run/user"))
TEMPORARY = (PurePath("/tmp"), PurePath("/var/tmp"), PurePath("/dev"), PurePath("/proc"), PurePath("/sys"))  # noqa: S108 - to be refused
STOP_GRACE_SECONDS = 15
"""From the end of the peaceful stop to the kill: so long has Celery to put back what still runs."""

_WRITABLE = re.compile(r'^ReadWritePaths="-(.*)"$', re.MULTILINE)
_MOUNT = re.compile(r'^RequiresMountsFor=".*"$')


def render_drop_in(settings: Settings, places: InstallPaths) -> str:
    """Return the text of 50-inboxes.conf."""
    roots = sorted({str(inbox.root) for inbox in settings.inbox.values()})
    stop = math.ceil(settings.work.stop_seconds)
    lines = [f"# Written by `inboxd systemd sync` from {escape(bytes(places.settings))}. Changes here are lost."]
    if not places.user:
        lines += ["[Unit]", "# The services wait for the mounts of their inboxes, and end with them."]
        lines += [f'RequiresMountsFor="{_escaped(root)}"' for root in roots]
    lines += ["[Service]", f"Environment=STOP_SECONDS={stop}", f"TimeoutStopSec={stop + STOP_GRACE_SECONDS}s"]
    if not places.user:
        if any(_below(PurePath(root), HOMES) for root in roots):
            lines += [
                "# An inbox lies in a home: these can be read now, but only the inbox be written.",
                "ProtectHome=read-only",
            ]
        lines += ["# One entry for each root: a file can't be renamed from one entry's mount to another's."]
        lines += [f'ReadWritePaths="-{_escaped(root)}"' for root in roots]
    return "\n".join([*lines, ""])


def find_unusable_roots(settings: Settings, places: InstallPaths) -> Iterator[Finding]:
    """Find roots that no sandbox can let in."""
    for name, inbox in () if places.user else settings.inbox.items():
        where = f"inbox.{name}.root"
        if re.search(r'[\x00-\x1f"\\]', str(inbox.root)):
            problem = f"{escape(bytes(inbox.root))} has a character that a unit file can't carry"
            yield Finding(where, problem, "rename it: no quotes, no backslashes, no control characters")
        if _below(inbox.root, TEMPORARY):
            problem = f"{inbox.root} is in a folder of which each service has one of its own"
            yield Finding(where, problem, "name a folder below /srv, /var or /home")


def find_missing_roots(settings: Settings, places: InstallPaths, file: Path) -> Iterator[Finding]:
    """Find inboxes that the installed services would not be let into. None, where none are installed for this file."""
    if places.user or file != places.settings:
        return
    wanted = {str(inbox.root) for inbox in settings.inbox.values()}
    for service in FOLDER_SERVICES:
        if (places.units / service).exists() and (missing := wanted - parse_granted_roots(places.drop_in(service))):
            problem = f"{service} may not write {', '.join(escape(root) for root in sorted(missing))}"
            yield Finding(str(places.drop_in(service)), problem, "sudo inboxd systemd sync")


def parse_granted_roots(path: Path) -> set[str]:
    """Return the roots that a drop-in names; none when there is no drop-in."""
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except OSError:
        return set()
    return {root.replace("%%", "%") for root in _WRITABLE.findall(text)}


def added_roots(before: str, now: str) -> list[str] | None:
    """Return the roots that a drop-in's new text lets in besides; None if it says anything else that the old one does not."""
    old, new = before.splitlines(), now.splitlines()
    fresh = [line for line in new if line not in old]
    if any(line not in new for line in old) or not all(_WRITABLE.match(line) or _MOUNT.match(line) for line in fresh):
        return None
    return [root.replace("%%", "%") for line in fresh for root in _WRITABLE.findall(line)]


def _escaped(root: str) -> str:
    return root.replace("%", "%%")


def _below(path: PurePath, tops: Iterable[PurePath]) -> bool:
    return any(path == top or top in path.parents for top in tops)
