"""Check inboxes and handlers before a program starts: folders, permissions, mounts, imports."""

import contextlib
import errno
import itertools
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import PurePath

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import Finding, FolderUnavailable, SettingsError
from inboxd.fs.bounded import run_on_mounts
from inboxd.fs.mounts import find_mount
from inboxd.fs.rename import move
from inboxd.fs.syscalls import Disk, closing
from inboxd.service.handler_checks import check_handler, find_idle_keys
from inboxd.service.note_checks import check_notes
from inboxd.service.output_checks import check_outputs
from inboxd.service.visibility import check_visibility
from inboxd.spool.layout import CLAIMED, CLAIMED_MODE, DONE, FAILED, FOLDER_NAMES, INBOX, Folders, open_folders
from inboxd.stage.store import find_stage_problems

MOUNT_SECONDS = 2.0
"""Maximum time to check the folders on one network or FUSE mount."""

PROBE_PREFIX = b".inboxd-probe-"


def create_folders(settings: Settings, disk: Disk | None = None) -> None:
    """Create each inbox's missing folders: root, inbox/, claimed/, done/, failed/. Raises SettingsError if one fails."""
    disk = disk or Disk()
    findings = []
    for inbox in settings.inbox.values():
        try:
            run_on_mounts(disk, inbox.root, partial(_create_folders, disk, inbox), MOUNT_SECONDS)
        except FolderUnavailable:
            continue  # the checks that follow report it
        except OSError as error:
            findings.append(_folder_finding(inbox, inbox.root, error, "make its parent folder writable, or name another root"))
    if findings:
        raise SettingsError(findings)


def _create_folders(disk: Disk, inbox: Inbox) -> None:
    disk.make_path(inbox.root)
    with closing(disk, disk.open_root(inbox.root)) as root:
        for name in FOLDER_NAMES:
            with contextlib.suppress(FileExistsError):
                disk.mkdir(root, name, CLAIMED_MODE if name == CLAIMED else 0o777)
    if inbox.out and not inbox.next_inbox:
        disk.make_path(PurePath(inbox.out))


def find_problems(
    settings: Settings, disk: Disk | None = None, *, handlers: bool = True, folders: bool = True
) -> list[Finding]:
    """Return findings about patterns, nested roots, folders, permissions, mounts and handlers.

    ``handlers=False`` skips importing the handlers, and the folders of their outputs, to which only workers may write;
    ``folders=False`` skips the folders, for a host that does not have them.
    A probe file is renamed from folder to folder; its name begins with a dot, and it is removed at the end.
    """
    disk = disk or Disk()
    findings = []
    if not settings.inbox:
        findings.append(Finding("inbox", "no inbox is defined", 'add a table [inbox.NAME] with root = "/path/of/the/folder"'))
    findings.extend(_find_nested_roots(disk, settings))
    if handlers:
        findings.extend(find_stage_problems(settings.stage))
    if folders:
        findings.extend(check_notes(disk, settings))
    if folders and handlers:
        findings.extend(check_outputs(disk, settings))
    for inbox in settings.inbox.values():
        findings.extend(_check_patterns(inbox))
        if folders:
            findings.extend(_check_in_time(disk, inbox))
        if handlers:
            findings.extend(check_handler(inbox))
            findings.extend(find_idle_keys(inbox, settings.defaults))
    return findings


def require_no_problems(settings: Settings, *, handlers: bool = True, folders: bool = True) -> None:
    """Raise SettingsError with all blocking findings, if there are any."""
    if findings := [finding for finding in find_problems(settings, handlers=handlers, folders=folders) if finding.blocks]:
        raise SettingsError(findings)


def _check_patterns(inbox: Inbox) -> Iterator[Finding]:
    """Yield a note for an ``include`` that takes no file, or hardly any: an extension where a pattern is meant."""
    where = f"inbox.{inbox.name}.include"
    if not inbox.include:
        yield Finding(where, "has no pattern, so that no file is taken", 'write include = ["*"], or leave it out', blocks=False)
    for pattern in inbox.include:
        if not set(pattern) & set("*?[") and "." not in pattern.strip("."):
            problem = f"{pattern!r} matches only files of exactly this name"
            yield Finding(where, problem, f"write {'*.' + pattern.lstrip('.')!r} for the extension", blocks=False)


def _folder_finding(inbox: Inbox, path: PurePath, error: OSError, remedy: str) -> Finding:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Finding(f"inbox.{inbox.name}.root, {path}", error.strerror or str(error), remedy, blocks=not is_full)


def _find_nested_roots(disk: Disk, settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each pair of roots that are the same folder (symlinks included) or nested."""
    inboxes = list(settings.inbox.values())
    numbers_by_folder: dict[PurePath | tuple[int, int], list[int]] = {}
    for number, inbox in enumerate(inboxes):
        numbers_by_folder.setdefault(inbox.root, []).append(number)
        if inode := _inode(disk, inbox.root):
            numbers_by_folder.setdefault(inode, []).append(number)
    pairs = {pair for numbers in numbers_by_folder.values() for pair in itertools.combinations(numbers, 2)}
    for number, inbox in enumerate(inboxes):
        ancestors = (other for folder in inbox.root.parents for other in numbers_by_folder.get(folder, ()))
        pairs.update((min(number, other), max(number, other)) for other in ancestors)
    for first, second in ((inboxes[number], inboxes[other]) for number, other in sorted(pairs)):
        yield Finding(
            f"inbox.{first.name}.root and inbox.{second.name}.root",
            f"{first.root} and {second.root} are the same folder, or one contains the other",
            "give each inbox a separate root",
        )


def _inode(disk: Disk, root: PurePath) -> tuple[int, int] | None:
    """Return a folder's device and inode number; None if it can't be opened, which ``_check_folders`` reports."""

    def read() -> tuple[int, int]:
        with closing(disk, disk.open_root(root)) as folder:
            status = disk.fstat(folder)
            return status.dev, status.ino

    try:
        return run_on_mounts(disk, root, read, MOUNT_SECONDS)
    except (OSError, FolderUnavailable):
        return None


def _check_in_time(disk: Disk, inbox: Inbox) -> list[Finding]:
    """Check an inbox's folders; a mount that does not answer blocks no program's start, because the others have work."""
    try:
        return run_on_mounts(disk, inbox.root, lambda: list(_check_folders(disk, inbox)), MOUNT_SECONDS)
    except FolderUnavailable as error:
        return [Finding(f"inbox.{inbox.name}.root", str(error), "the inbox is watched once it answers", blocks=False)]


def _check_folders(disk: Disk, inbox: Inbox) -> Iterator[Finding]:
    try:
        with open_folders(disk, inbox.root) as folders:
            yield from _check_mounts(disk, inbox, folders) or _check_renames(disk, inbox, folders)
            yield from check_visibility(disk, inbox, folders)
    except FolderUnavailable as error:
        yield Finding(
            f"inbox.{inbox.name}.root",
            str(error),
            f"create it: mkdir -p {inbox.root}/{{inbox,claimed,done,failed}}, owned by the service's user, "
            "or mount its file system; `inboxd up` creates it by itself",
        )
    except OSError as error:
        yield _folder_finding(inbox, inbox.root, error, "make it readable and writable for the service's user")


def _check_mounts(disk: Disk, inbox: Inbox, folders: Folders) -> list[Finding]:
    inbox_mount = find_mount(disk, folders.inbox)
    findings = []
    for name, folder in ((CLAIMED, folders.claimed), (DONE, folders.done), (FAILED, folders.failed)):
        mount = find_mount(disk, folder)
        if mount.id != inbox_mount.id:
            findings.append(
                Finding(
                    f"inbox.{inbox.name}.root, {inbox.root / name.decode()}",
                    f"is on another mount ({mount.point}, {mount.file_system}) than {inbox.root / 'inbox'} "
                    f"({inbox_mount.point}, {inbox_mount.file_system}); files can't be renamed between mounts",
                    "mount one volume (Docker) or one ReadWritePaths entry (systemd) at the root, not one for each folder",
                )
            )
    return findings


def _check_renames(disk: Disk, inbox: Inbox, folders: Folders) -> list[Finding]:
    """Create a probe file in inbox/ and rename it to claimed/, done/ and failed/; return a finding if a step fails."""
    probe = PROBE_PREFIX + secrets.token_hex(8).encode()
    name, at = INBOX, folders.inbox
    try:
        disk.close(disk.create(at, probe, 0o600))
        for name, target in ((CLAIMED, folders.claimed), (DONE, folders.done), (FAILED, folders.failed)):  # noqa: B007
            move(disk, at, probe, target, probe)
            at = target
        disk.unlink(at, probe)
    except OSError as error:
        with contextlib.suppress(OSError):
            disk.unlink(at, probe)
        remedy = "make the service's user the owner of the folder, and the folder writable for its group"
        if error.errno == errno.EROFS:
            remedy = "mount the folder read-write; under systemd, name the root in ReadWritePaths"
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free space on its file system"
        return [_folder_finding(inbox, inbox.root / name.decode(), error, remedy)]
    return []
