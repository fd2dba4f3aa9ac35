"""Who may see done/ and failed/, by an inbox's visible_to. Their sub-folders and notes follow when they are made."""

from collections.abc import Iterator

from inboxd.config.rules import Inbox
from inboxd.fs.sharing import Grants, has_own_list, is_shared, read_grants, share_folder, unshare_folder
from inboxd.fs.syscalls import Disk, Fd
from inboxd.spool.layout import DONE, FAILED, Folders

OWN_LIST = "has an access list of its own, which is kept"
_READ_AND_LIST = 5


def apply_visibility(disk: Disk, inbox: Inbox, folders: Folders) -> list[bytes]:
    """Share done/ and failed/ as the settings say, or end that; return those that were changed. Raises OSError.

    A folder with an access list that is not ours is left as it is.
    """
    grants = _grants(disk, inbox, folders)
    changed = []
    for name, folder in _filing_folders(folders):
        if grants is None:
            is_changed = unshare_folder(disk, folder)
        else:
            is_changed = not has_own_list(disk, folder) and share_folder(disk, folder, grants)
        if is_changed:
            changed.append(name)
    return changed


def find_differences(disk: Disk, inbox: Inbox, folders: Folders) -> Iterator[tuple[bytes, str]]:
    """Yield each of done/ and failed/ that is not visible as the settings say, and the problem. Raises OSError."""
    grants = _grants(disk, inbox, folders)
    for name, folder in _filing_folders(folders):
        if grants is None:
            if is_shared(disk, folder):
                yield name, "is still visible to others"
        elif has_own_list(disk, folder):
            yield name, OWN_LIST
        elif not is_shared(disk, folder):
            yield name, f"is not yet visible as {inbox.visible_to!r} says"


def _grants(disk: Disk, inbox: Inbox, folders: Folders) -> Grants | None:
    match inbox.visible_to:
        case "nobody":
            return None
        case "group":
            return Grants({}, {disk.own_group(): _READ_AND_LIST}, 0)
        case "droppers":
            return read_grants(disk, folders.inbox)


def _filing_folders(folders: Folders) -> tuple[tuple[bytes, Fd], tuple[bytes, Fd]]:
    return (DONE, folders.done), (FAILED, folders.failed)
