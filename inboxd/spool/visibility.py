"""Who may see done/ and failed/, by an inbox's visible_to. Their sub-folders and notes follow when they are made."""

import contextlib
from collections.abc import Iterator

from inboxd.config.rules import Inbox
from inboxd.fs.sharing import Grants, has_own_list, is_shared, read_grants, share_folder, unshare_folder
from inboxd.fs.syscalls import Disk, Fd, closing
from inboxd.spool.layout import DONE, FAILED, OUT, Folders

OWN_LIST = "has an access list of its own, which is kept"
_READ_AND_LIST = 5


def apply_visibility(disk: Disk, inbox: Inbox, folders: Folders) -> list[bytes]:
    """Share done/, failed/ and out/ as the settings say, or end that; return those that were changed. Raises OSError.

    A folder with an access list that is not ours is left as it is.
    """
    grants = _grants(disk, inbox, folders)
    changed = []
    with _filing_folders(disk, folders) as filing_folders:
        for name, folder in filing_folders:
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
    with _filing_folders(disk, folders) as filing_folders:
        for name, folder in filing_folders:
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


@contextlib.contextmanager
def _filing_folders(disk: Disk, folders: Folders) -> Iterator[list[tuple[bytes, Fd]]]:
    """Open done/, failed/ and, if there is one, out/ for a with block."""
    found = [(DONE, folders.done), (FAILED, folders.failed)]
    with contextlib.ExitStack() as stack:
        with closing(disk, disk.open_folder(folders.done, b"..")) as root, contextlib.suppress(OSError):
            found.append((OUT, stack.enter_context(closing(disk, disk.open_folder(root, OUT)))))
        yield found
