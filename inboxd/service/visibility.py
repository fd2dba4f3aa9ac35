"""Applies visible_to at the start of a program and at a reload, and checks whether it has taken effect."""

from collections.abc import Iterator
from functools import partial

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import Finding, FolderUnavailable
from inboxd.fs.bounded import run_on_mounts
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.spool.layout import Folders, open_folders
from inboxd.spool.visibility import OWN_LIST, apply_visibility, find_differences

MOUNT_SECONDS = 2.0
"""Maximum time to share the folders on one network or FUSE mount."""
REMEDY = "the service's user must own the folder, and its file system must keep access lists and user attributes"

_log = get_logger(__name__)


def share_folders(settings: Settings, disk: Disk | None = None) -> None:
    """Share done/ and failed/ of each inbox as its settings say. What can't be shared is logged, and stays closed."""
    disk = disk or Disk()
    for inbox in settings.inbox.values():
        try:
            changed = run_on_mounts(disk, inbox.root, partial(_apply, disk, inbox), MOUNT_SECONDS)
        except (OSError, FolderUnavailable) as error:
            if inbox.visible_to != "nobody":
                why = getattr(error, "strerror", None) or str(error)
                _log.warning(events.FOLDER_NOT_SHARED, inbox=inbox.name, visible_to=inbox.visible_to, error=why, remedy=REMEDY)
            continue
        for name in changed:
            _log.info(events.FOLDER_SHARED, inbox=inbox.name, folder=name.decode(), visible_to=inbox.visible_to)


def _apply(disk: Disk, inbox: Inbox) -> list[bytes]:
    with open_folders(disk, inbox.root) as folders:
        return apply_visibility(disk, inbox, folders)


def check_visibility(disk: Disk, inbox: Inbox, folders: Folders) -> Iterator[Finding]:
    """Yield a note for each folder that is not visible as the settings say. Raises OSError."""
    for name, problem in find_differences(disk, inbox, folders):
        remedy = f"start or reload the services; if that does not help, {REMEDY}"
        if problem == OWN_LIST:
            remedy = "for visible_to to take effect, remove the list: setfacl -b, then start or reload the services"
        where = f"inbox.{inbox.name}.visible_to, {inbox.root / name.decode()}"
        yield Finding(where, problem, remedy, blocks=False)
