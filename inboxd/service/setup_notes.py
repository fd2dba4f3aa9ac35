"""Notes about settings with which everything starts, and that are hardly meant so: for `inboxd check`."""

import re
from collections.abc import Iterator
from functools import partial

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import Finding, FolderUnavailable
from inboxd.fs.bounded import run_on_mounts
from inboxd.fs.mounts import find_mount
from inboxd.fs.syscalls import Disk, closing
from inboxd.intake.readiness import decide_by_name

MOUNT_SECONDS = 2.0
"""Maximum time to look at one network or FUSE mount."""

MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


def find_notes(settings: Settings, disk: Disk | None = None, *, folders: bool = True) -> Iterator[Finding]:
    """Yield a note for each inbox in memory, and for each pattern whose files are ignored all the same.

    ``folders=False`` skips the folders, for users who may not read them.
    """
    disk = disk or Disk()
    for inbox in settings.inbox.values():
        yield from _check_patterns(inbox)
        if folders:
            yield from _check_storage(disk, inbox)


def _check_storage(disk: Disk, inbox: Inbox) -> Iterator[Finding]:
    """Yield a note if a root is in memory. A root that can't be looked at is reported by the checks before a start."""
    try:
        file_system = run_on_mounts(disk, inbox.root, partial(_file_system, disk, inbox), MOUNT_SECONDS)
    except (OSError, FolderUnavailable):
        return
    if file_system in MEMORY_FILE_SYSTEMS:
        problem = f"is in memory ({file_system}): files that are not processed yet, done/ and failed/ are lost at a reboot"
        yield Finding(f"inbox.{inbox.name}.root, {inbox.root}", problem, "name a folder on a disk", blocks=False)


def _file_system(disk: Disk, inbox: Inbox) -> str:
    with closing(disk, disk.open_root(inbox.root)) as root:
        return find_mount(disk, root).file_system


def _check_patterns(inbox: Inbox) -> Iterator[Finding]:
    """Yield a note for each pattern of ``include`` if a name that matches the pattern is ignored."""
    where = f"inbox.{inbox.name}.include"
    for pattern in inbox.include:
        example = re.sub("[*?]", "x", pattern)
        if pattern.startswith(("/", "./")):
            remedy = "write a path below inbox/, without a slash or a dot at its beginning"
            yield Finding(where, f"{pattern!r} matches no file", remedy, blocks=False)
        elif "[" not in pattern and (ignored := decide_by_name(example.encode(), inbox)):
            problem = f"{pattern!r} takes no file: {example} would be ignored ({ignored.reason})"
            yield Finding(where, problem, "correct include, exclude or temporary_names", blocks=False)
