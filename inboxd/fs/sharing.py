"""Lets others see a folder of the service's, by a POSIX access list; what is made in the folder later gets the same list.

A list needs no change of group, which the services' sandbox forbids. A mark on the folder says that the list is ours, and holds
the mode that the folder had before.
"""

import contextlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

from inboxd.fs.syscalls import Disk, Fd

MARK = "user.inboxd.mode"
ACCESS_LIST = "system.posix_acl_access"

_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")  # tag, permissions, id
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFF_FFFF
_READ, _SEE = 4, 5
"""Permissions: to read a file; to list a folder, and to open what is in it."""


class Grants(NamedTuple):
    """What others than the owner may do, without writing: permissions by user id and by group id, and everybody's."""

    users: dict[int, int]
    groups: dict[int, int]
    others: int


def read_grants(disk: Disk, folder: Fd) -> Grants:
    """Return what a folder lets others see. Raises OSError."""
    mode, group = disk.fstat(folder).mode, disk.group(folder)
    entries = list(_entries(disk.load_attribute(folder, ACCESS_LIST) or b""))
    if not entries:
        return Grants({}, {group: mode >> 3 & _SEE}, mode & _SEE)
    mask = next((permissions for tag, permissions, _ in entries if tag == _MASK), 7) & _SEE
    users = {who: permissions & mask for tag, permissions, who in entries if tag == _USER}
    groups = {group if tag == _GROUP_OBJ else who: p & mask for tag, p, who in entries if tag in (_GROUP_OBJ, _GROUP)}
    return Grants(users, groups, next(permissions & _SEE for tag, permissions, _ in entries if tag == _OTHER))


def is_shared(disk: Disk, folder: Fd) -> bool:
    """Return whether a folder has the mark."""
    return disk.load_attribute(folder, MARK) is not None


def own_mode(disk: Disk, folder: Fd) -> int:
    """Return the mode that a folder has, or had before it was shared: an access list shows its mask as the group's."""
    before = disk.load_attribute(folder, MARK)
    return disk.fstat(folder).mode if before is None else int(before, 8)


def has_own_list(disk: Disk, folder: Fd) -> bool:
    """Return whether a folder has an access list that is not ours."""
    return not is_shared(disk, folder) and disk.load_attribute(folder, ACCESS_LIST) is not None


def share_folder(disk: Disk, folder: Fd, grants: Grants) -> bool:
    """Give a folder this list, and the mark; return False if it has them already.

    Raises OSError, such as EPERM if another user owns it, and ENOTSUP if the file system keeps no access lists.
    """
    before = disk.load_attribute(folder, MARK)
    mode = disk.fstat(folder).mode if before is None else int(before, 8)
    wanted = _build(mode, grants)
    if before is not None and disk.load_attribute(folder, ACCESS_LIST) == wanted:
        return False
    # If we die here: a marked folder with its old permissions; the next start completes it.
    disk.save_attribute(folder, MARK, b"%o" % mode)
    disk.save_attribute(folder, ACCESS_LIST, wanted)
    return True


def unshare_folder(disk: Disk, folder: Fd) -> bool:
    """Restore the permissions that a folder had before it was shared; return False if it is not shared. Raises OSError."""
    before = disk.load_attribute(folder, MARK)
    if before is None:
        return False
    mode = int(before, 8) & 0o777
    # If we die below: the folder keeps its mark, and the next start completes it.
    disk.remove_attribute(folder, ACCESS_LIST)
    if (disk.fstat(folder).mode & 0o777) != mode:
        disk.set_mode(folder, mode)
    disk.remove_attribute(folder, MARK)
    return True


def share_as_parent(disk: Disk, parent: Fd, new: Fd, *, is_folder: bool) -> None:
    """Let those see a new folder or file who see its parent, if the parent is shared. Errors leave it to the owner alone."""
    with contextlib.suppress(OSError):
        if not is_shared(disk, parent):
            return
        # If we die here: a new folder that only its owner sees.
        grants = read_grants(disk, parent)
        if is_folder:
            share_folder(disk, new, grants)
        else:
            disk.save_attribute(new, ACCESS_LIST, _build(disk.fstat(new).mode, _for_file(grants)))


def _for_file(grants: Grants) -> Grants:
    """Return what those may do with a file who can open what is in its folder: read it."""

    def permission(see: int) -> int:
        return _READ if see & 1 else 0

    users = {who: permission(see) for who, see in grants.users.items()}
    return Grants(users, {who: permission(see) for who, see in grants.groups.items()}, permission(grants.others))


def _build(mode: int, grants: Grants) -> bytes:
    """Return the list of a file or folder that had this mode, and lets others see it: nobody loses a permission."""
    own_group = mode >> 3 & 7
    mask = own_group
    for permissions in (*grants.users.values(), *grants.groups.values()):
        mask |= permissions
    entries = [
        (_USER_OBJ, mode >> 6 & 7, _NO_ID),
        *((_USER, grants.users[who], who) for who in sorted(grants.users)),
        (_GROUP_OBJ, own_group, _NO_ID),
        *((_GROUP, grants.groups[who], who) for who in sorted(grants.groups)),
        (_MASK, mask, _NO_ID),
        (_OTHER, mode & 7 | grants.others, _NO_ID),
    ]
    return _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries)


def _entries(packed: bytes) -> Iterator[tuple[int, int, int]]:
    body = packed[len(_VERSION) :]
    if packed.startswith(_VERSION) and len(body) % _ENTRY.size == 0:
        yield from _ENTRY.iter_unpack(body)
