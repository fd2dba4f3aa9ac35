"""Generate the services' sandbox from the settings, so that only the inboxes' roots are writable, and compare the two."""

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from inboxd.config.settings import Settings
from inboxd.console.systemd.install_paths import FOLDER_SERVICES, InstallPaths
from inboxd.errors import Finding
from inboxd.logs.text import escape

HOMES = (PurePath("/home"), PurePath("/root"), PurePath("/run/user"))
TEMPORARY = (PurePath("/tmp"), PurePath("/var/tmp"), PurePath("/dev"), PurePath("/proc"), PurePath("/sys"))  # noqa: S108 - refused, not used
STOP_GRACE_SECONDS = 15
"""Time between the end of the warm shutdown and SIGKILL, in seconds, in which Celery requeues running tasks."""

_WRITABLE = re.compile(r'^ReadWritePaths="-(.*)"$', re.MULTILINE)
_MOUNT = re.compile(r'^RequiresMountsFor=".*"$')


def render_drop_in(settings: Settings, places: InstallPaths) -> str:
    """Return the text of the drop-in 50-inboxes.conf."""
    roots = sorted({str(inbox.root) for inbox in settings.inbox.values()})
    stop = math.ceil(settings.work.stop_seconds)
    lines = [f"# Written by `inboxd systemd sync` from {escape(bytes(places.settings))}. The next sync overwrites changes."]
    if not places.user:
        lines += ["[Unit]", "# The services start after the mounts of their inboxes, and stop with them."]
        lines += [f'RequiresMountsFor="{_escape_percent(root)}"' for root in roots]
    lines += ["[Service]", f"Environment=STOP_SECONDS={stop}", f"TimeoutStopSec={stop + STOP_GRACE_SECONDS}s"]
    if not places.user:
        if any(_is_below(PurePath(root), HOMES) for root in roots):
            lines += [
                "# An inbox is in a home folder: home folders are readable, but only the inbox is writable.",
                "ProtectHome=read-only",
            ]
        lines += ["# One entry for each root: each entry is a mount, and files can't be renamed between mounts."]
        lines += [f'ReadWritePaths="-{_escape_percent(root)}"' for root in roots]
    return "\n".join([*lines, ""])


def find_unusable_roots(settings: Settings, places: InstallPaths) -> Iterator[Finding]:
    """Yield a finding for each root that a sandbox can't include."""
    for name, inbox in () if places.user else settings.inbox.items():
        where = f"inbox.{name}.root"
        if re.search(r'[\x00-\x1f"\\]', str(inbox.root)):
            problem = f"{escape(bytes(inbox.root))} has a character that is not possible in a unit file"
            yield Finding(where, problem, "rename the folder: no quotes, backslashes or control characters")
        if _is_below(inbox.root, TEMPORARY):
            problem = f"{inbox.root} is in a folder that is private to each service"
            yield Finding(where, problem, "use a folder below /srv, /var or /home")


def find_missing_roots(settings: Settings, places: InstallPaths, file: Path) -> Iterator[Finding]:
    """Yield a finding for each installed service whose sandbox lacks an inbox; none if ``file`` is not the services' one."""
    if places.user or file != places.settings:
        return
    roots = {str(inbox.root) for inbox in settings.inbox.values()}
    for service in FOLDER_SERVICES:
        if (places.units / service).exists() and (missing := roots - parse_granted_roots(places.drop_in(service))):
            problem = f"the sandbox of {service} lacks {', '.join(escape(root) for root in sorted(missing))}"
            yield Finding(str(places.drop_in(service)), problem, "sudo inboxd systemd sync")


def parse_granted_roots(path: Path) -> set[str]:
    """Return the roots in a drop-in; an empty set if it can't be read."""
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except OSError:
        return set()
    return {root.replace("%%", "%") for root in _WRITABLE.findall(text)}


def added_roots(old_text: str, new_text: str) -> list[str] | None:
    """Return the roots that a drop-in's new text adds; None if the texts differ in anything else."""
    old, new = old_text.splitlines(), new_text.splitlines()
    added = [line for line in new if line not in old]
    if any(line not in new for line in old) or not all(_WRITABLE.match(line) or _MOUNT.match(line) for line in added):
        return None
    return [root.replace("%%", "%") for line in added for root in _WRITABLE.findall(line)]


def _escape_percent(root: str) -> str:
    return root.replace("%", "%%")


def _is_below(path: PurePath, folders: Iterable[PurePath]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)
