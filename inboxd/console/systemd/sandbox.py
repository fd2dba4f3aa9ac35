"""Generate the services' sandbox from the settings, so that only the inboxes' roots are writable, and compare the two."""

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from inboxd.config.programs import is_on_this_host
from inboxd.config.rules import Inbox
from inboxd.config.secret_files import authorization_credential, secret_credential
from inboxd.config.settings import Settings
from inboxd.config.tables import Stage
from inboxd.console.systemd.install_paths import SANDBOXED_SERVICES, WORKER_SERVICE, InstallPaths
from inboxd.errors import Finding
from inboxd.logs.text import escape
from inboxd.stage.store import CREDENTIAL, stage_folder

HOMES = (PurePath("/home"), PurePath("/root"), PurePath("/run/user"))
TEMPORARY = (PurePath("/tmp"), PurePath("/var/tmp"), PurePath("/dev"), PurePath("/proc"), PurePath("/sys"))  # noqa: S108 - refused, not used
STOP_GRACE_SECONDS = 15
"""Time between the end of the warm shutdown and SIGKILL, in seconds, in which Celery requeues running tasks."""

_WRITABLE = re.compile(r'^ReadWritePaths="-(.*)"$', re.MULTILINE)
_ALWAYS_WRITABLE = (*TEMPORARY, PurePath("/run"), PurePath("/var/lib/inboxd"))
"""Mounts of a service that are writable whatever the settings say."""


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """What a service runs with: the mount points that are writable in its namespace, and its time for a stop in seconds."""

    writable: frozenset[str]
    stop_seconds: int


def parse_running(mounts: str, environment: bytes) -> RunningSandbox:
    """Return the sandbox that a process's /proc/PID/mountinfo and /proc/PID/environ show."""
    fields = (line.split(" ") for line in mounts.splitlines())
    points = {_unescape(field[4]) for field in fields if "rw" in field[5].split(",")}
    variables = dict(entry.partition(b"=")[::2] for entry in environment.split(b"\0"))
    stop_seconds = variables.get(b"STOP_SECONDS", b"")
    return RunningSandbox(frozenset(points - {"/"}), int(stop_seconds) if stop_seconds.isdigit() else 0)


def _unescape(point: str) -> str:
    return (
        re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point).encode("latin-1").decode("utf-8", "surrogateescape")
    )


def granted_folders(settings: Settings, service: str) -> list[str]:
    """Return the folders that a service may write to: the inboxes' roots, and for the worker what its handlers need."""
    roots = {str(inbox.root) for inbox in settings.inbox.values()}
    outs = {inbox.out for inbox in settings.inbox.values() if inbox.out and not inbox.next_inbox}
    store = stage_folder(settings.stage)
    extra = {*map(str, settings.work.writable), *outs, *([str(store)] if store else [])}
    return sorted(roots | (extra if service == WORKER_SERVICE else set()))


def render_drop_in(settings: Settings, places: InstallPaths, service: str) -> str:
    """Return the text of a service's drop-in 50-inboxes.conf."""
    roots = granted_folders(settings, service)
    stop = math.ceil(settings.work.stop_seconds)
    lines = [f"# Written by `inboxd systemd sync` from {escape(bytes(places.settings))}. The next sync overwrites changes."]
    if not places.user:
        lines += ["[Unit]", "# The services start after the mounts of their inboxes, and stop with them."]
        store = stage_folder(settings.stage)  # which may be away
        lines += [f'RequiresMountsFor="{_escape_percent(root)}"' for root in roots if root != str(store)]
    lines += ["[Service]", f"Environment=STOP_SECONDS={stop}", f"TimeoutStopSec={stop + STOP_GRACE_SECONDS}s"]
    if not places.user:
        if any(_is_below(PurePath(root), HOMES) for root in roots):
            lines += [
                "# An inbox is in a home folder: home folders are readable, but only the inbox is writable.",
                "ProtectHome=read-only",
            ]
        lines += ["# One entry for each root: each entry is a mount, and files can't be renamed between mounts."]
        lines += [f'ReadWritePaths="-{_escape_percent(root)}"' for root in roots]
        if service == WORKER_SERVICE:
            lines += _allow_handlers(settings.inbox.values())
            lines += _allow_store(settings.stage)
        lines += ["# What was dropped there can't be executed."]
        lines += [f'NoExecPaths="-{_escape_percent(root)}"' for root in roots]
    return "\n".join([*lines, ""])


def _allow_handlers(inboxes: Iterable[Inbox]) -> Iterator[str]:
    """Yield what the worker needs for the commands and URLs of its inboxes."""
    programs = [(inbox.name, program) for inbox in inboxes for program in inbox.programs]
    if any(program.command and program.nice for _, program in programs):
        yield "# The priority of commands may be lowered (nice)."
        yield "SystemCallFilter=setpriority"
    if any(program.url and not is_on_this_host(program.url) for _, program in programs):
        yield "# Files are sent to a URL of another host. To allow less: systemctl edit inboxd-worker."
        yield "IPAddressAllow=any"
    secrets = {
        name: path
        for inbox, program in programs
        if program.url
        for name, path in (
            (secret_credential(inbox), program.secret_file),
            (authorization_credential(inbox), program.authorization_file),
        )
        if path
    }
    if secrets:
        yield "# Root reads these files; no other process of the service's user can. The worker starts without them, too."
        yield from (f"LoadCredential={name}:{_escape_percent(path)}" for name, path in secrets.items())
        yield from (f"SetCredential={name}:\\n" for name in secrets)


def _allow_store(stage: Stage) -> Iterator[str]:
    """Yield what the worker needs for the store of large files."""
    if stage.url and stage.scheme != "file":
        yield "# Large files go to a store. To allow less: systemctl edit inboxd-worker."
        yield "IPAddressAllow=any"
    if stage.secret_file:
        yield f"LoadCredential={CREDENTIAL}:{_escape_percent(stage.secret_file)}"
        yield f"SetCredential={CREDENTIAL}:\\n"


def find_unusable_roots(settings: Settings, places: InstallPaths) -> Iterator[Finding]:
    """Yield a finding for each root that a sandbox can't include."""
    folders = [(f"inbox.{name}.root", inbox.root) for name, inbox in settings.inbox.items()]
    folders += [
        (f"inbox.{name}.out", PurePath(inbox.out))
        for name, inbox in settings.inbox.items()
        if inbox.out and not inbox.next_inbox
    ]
    for where, folder in () if places.user else (*folders, *(("work.writable", folder) for folder in settings.work.writable)):
        if re.search(r'[\x00-\x1f"\\]', str(folder)):
            problem = f"{escape(bytes(folder))} has a character that is not possible in a unit file"
            yield Finding(where, problem, "rename the folder: no quotes, backslashes or control characters")
        if _is_below(folder, TEMPORARY):
            problem = f"{folder} is in a folder that is private to each service"
            yield Finding(where, problem, "use a folder below /srv, /var or /home")


def find_missing_roots(settings: Settings, places: InstallPaths, file: Path) -> Iterator[Finding]:
    """Yield a finding for each installed service whose sandbox lacks an inbox; none if ``file`` is not the services' one."""
    if places.user or file != places.settings:
        return
    for service in SANDBOXED_SERVICES:
        roots = set(granted_folders(settings, service))
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


def missing_folders(settings: Settings, service: str, running: RunningSandbox) -> list[str] | None:
    """Return the granted folders that a running service's sandbox lacks; None if it differs in anything else.

    Then only a restart makes it match the settings: a folder is no longer granted, or the time for a stop has changed.
    """
    wanted = {os.path.realpath(folder) for folder in granted_folders(settings, service) if Path(folder).is_dir()}
    expected = (*_ALWAYS_WRITABLE, *map(PurePath, wanted))
    is_extra = any(not _is_below(PurePath(folder), expected) for folder in running.writable)
    if is_extra or running.stop_seconds != math.ceil(settings.work.stop_seconds):
        return None
    return sorted(wanted - running.writable)


def _escape_percent(root: str) -> str:
    return root.replace("%", "%%")


def _is_below(path: PurePath, folders: Iterable[PurePath]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)
