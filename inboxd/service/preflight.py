"""Before the start: are the folders there, ours, and on one mount? What is wrong is told with its remedy."""

import contextlib
import errno
import itertools
import secrets
from collections.abc import Iterator
from pathlib import PurePath

from inboxd.config.handler_import import NotCallableError, hidden_module, import_handler
from inboxd.config.settings import Inbox, Settings
from inboxd.errors import Finding, FolderUnavailable, SettingsError
from inboxd.fs.mounts import find_mount
from inboxd.fs.rename import move
from inboxd.fs.syscalls import Disk, closing
from inboxd.spool.layout import CLAIMED, CLAIMED_MODE, DONE, FAILED, FOLDER_NAMES, INBOX, Folders, open_folders

PROBE_PREFIX = b".inboxd-probe-"


def create_folders(settings: Settings, disk: Disk | None = None) -> None:
    """Make what is missing of each inbox's root and its four folders. Raises SettingsError for what can't be made."""
    disk = disk or Disk()
    findings = []
    for inbox in settings.inbox.values():
        try:
            disk.make_path(inbox.root)
            with closing(disk, disk.open_root(inbox.root)) as root:
                for name in FOLDER_NAMES:
                    try:
                        disk.mkdir(root, name, CLAIMED_MODE if name == CLAIMED else 0o777)
                    except FileExistsError:
                        continue
        except OSError as error:
            findings.append(_folder_finding(inbox, inbox.root, error, "make it writable for the service, or name another root"))
    if findings:
        raise SettingsError(findings)


def find_problems(
    settings: Settings, disk: Disk | None = None, *, handlers: bool = True, folders: bool = True
) -> list[Finding]:
    """Look for everything that would go wrong later: folders, permissions, mounts, roots within roots, handlers.

    Leaves no trace: its probe files begin with a dot, and are removed. Without ``handlers`` their modules are not
    imported; without ``folders`` these are somebody else's business.
    """
    disk = disk or Disk()
    findings = []
    if not settings.inbox:
        findings.append(Finding("inbox", "there is none", 'add a table [inbox.NAME] with root = "/path/of/the/folder"'))
    findings.extend(_find_nested_roots(disk, settings))
    for inbox in settings.inbox.values():
        if folders:
            findings.extend(_check_folders(disk, inbox))
        if handlers:
            findings.extend(_check_handler(inbox))
    return findings


def require_no_problems(settings: Settings, *, handlers: bool = True, folders: bool = True) -> None:
    """Raise SettingsError with all findings that keep a program from its work, if there are any."""
    if findings := [finding for finding in find_problems(settings, handlers=handlers, folders=folders) if finding.blocks]:
        raise SettingsError(findings)


def _folder_finding(inbox: Inbox, path: PurePath, error: OSError, remedy: str) -> Finding:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Finding(f"inbox.{inbox.name}.root, {path}", error.strerror or str(error), remedy, blocks=not full)


def _find_nested_roots(disk: Disk, settings: Settings) -> Iterator[Finding]:
    """Find roots that are one folder, by whatever path, or inside each other: a file must have one inbox."""
    inboxes = list(settings.inbox.values())
    places: dict[PurePath | tuple[int, int], list[int]] = {}
    for number, inbox in enumerate(inboxes):
        places.setdefault(inbox.root, []).append(number)
        if inode := _inode(disk, inbox.root):
            places.setdefault(inode, []).append(number)
    pairs = {pair for found in places.values() for pair in itertools.combinations(found, 2)}
    for number, inbox in enumerate(inboxes):
        above = (other for folder in inbox.root.parents for other in places.get(folder, ()))
        pairs.update((min(number, other), max(number, other)) for other in above)
    for one, other in ((inboxes[first], inboxes[second]) for first, second in sorted(pairs)):
        yield Finding(
            f"inbox.{one.name}.root and inbox.{other.name}.root",
            f"{one.root} and {other.root} are one folder, or one is inside the other",
            "give each inbox a root of its own",
        )


def _inode(disk: Disk, root: PurePath) -> tuple[int, int] | None:
    """Return what tells a folder from others, by whatever path; None of one that can't be opened: it has its own finding."""
    try:
        with closing(disk, disk.open_root(root)) as folder:
            look = disk.fstat(folder)
    except OSError:
        return None
    return look.dev, look.ino


def _check_folders(disk: Disk, inbox: Inbox) -> Iterator[Finding]:
    try:
        with open_folders(disk, inbox.root) as folders:
            yield from _check_mounts(disk, inbox, folders) or _check_moves(disk, inbox, folders)
    except FolderUnavailable as error:
        yield Finding(
            f"inbox.{inbox.name}.root",
            str(error),
            f"create it: mkdir -p {inbox.root}/{{inbox,claimed,done,failed}}, owned by the service's user, "
            "or mount what should be there",
        )
    except OSError as error:
        yield _folder_finding(inbox, inbox.root, error, "make it readable and writable for the service")


def _check_mounts(disk: Disk, inbox: Inbox, folders: Folders) -> list[Finding]:
    here = find_mount(disk, folders.inbox)
    findings = []
    for name, folder in ((CLAIMED, folders.claimed), (DONE, folders.done), (FAILED, folders.failed)):
        there = find_mount(disk, folder)
        if there.id != here.id:
            findings.append(
                Finding(
                    f"inbox.{inbox.name}.root, {inbox.root / name.decode()}",
                    f"is on another mount ({there.point}, {there.file_system}) than {inbox.root / 'inbox'} "
                    f"({here.point}, {here.file_system}), so that files can't be renamed between them",
                    "mount one volume (Docker) or one ReadWritePaths entry (systemd) at the root, not one for each folder",
                )
            )
    return findings


def _check_moves(disk: Disk, inbox: Inbox, folders: Folders) -> list[Finding]:
    """Walk a probe file the way that every file goes: inbox/, claimed/, done/, failed/."""
    probe = PROBE_PREFIX + secrets.token_hex(8).encode()
    way = ((INBOX, folders.inbox), (CLAIMED, folders.claimed), (DONE, folders.done), (FAILED, folders.failed))
    name, at = way[0]
    try:
        disk.close(disk.create(at, probe, 0o600))
        for name, there in way[1:]:  # noqa: B007 - the name is for the finding
            move(disk, at, probe, there, probe)
            at = there
        disk.unlink(at, probe)
    except OSError as error:
        with contextlib.suppress(OSError):
            disk.unlink(at, probe)
        remedy = "let the folder belong to the service's user, and let its group write there"
        if error.errno == errno.EROFS:
            remedy = "mount it read-write; under systemd, name the root in ReadWritePaths"
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "make room on its file system"
        return [_folder_finding(inbox, inbox.root / name.decode(), error, remedy)]
    return []


def _check_handler(inbox: Inbox) -> Iterator[Finding]:
    key = f"inbox.{inbox.name}.handler = {inbox.handler!r}"
    try:
        import_handler(inbox.handler)
    except NotCallableError:
        yield Finding(key, "is not callable", "name a function that takes one InboxFile")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's module may raise anything while it is imported
        yield Finding(key, f"can't be imported: {type(error).__name__}: {error}", "install it, or mend the name or the module")
    if hidden := hidden_module(inbox.handler):
        problem = f"{hidden.imported} is imported, and hides {hidden.hidden}"
        yield Finding(key, problem, "give one of the two modules another name", blocks=False)
