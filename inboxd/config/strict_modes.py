"""Trust only files that nobody else can change: the settings name code that is run, so who can change them can be the caller.

As OpenSSH's StrictModes: the file and each folder above it belong to root or to the caller, and only these can write to them.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from inboxd.errors import Finding, SettingsError

LINKS_MAX = 40
STRICT_MODES_VARIABLE = "INBOXD_STRICT_MODES"
"""The environment variable that switches the check off, with the value "no": a file can't say that it is to be trusted."""


def find_untrusted(path: Path, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Return a finding for each part of a path, and of each path that its links lead to, that others can change."""
    if environment.get(STRICT_MODES_VARIABLE, "").lower() in ("no", "off", "false", "0"):
        return []
    trusted = trusted_users(environment)
    found = {}
    for component, is_last_folder in _components(path.absolute()):
        if finding := _check(component, trusted, may_be_sticky=not is_last_folder):
            found[component] = finding
    return list(found.values())


def _components(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yield each folder and link on the way to a file, then the file; and whether it is a folder that a file or a link lies in.

    In such a folder others could put what is read beside it.
    """
    rest = [*path.parts[1:]]
    current, links = Path(path.anchor), 0
    yield current, not rest[1:]
    while rest:
        name = rest.pop(0)
        current = current.parent if name == ".." else current / name
        try:
            target = current.readlink()
        except OSError:  # no link
            yield current, len(rest) == 1
            continue
        yield current, False
        links += 1
        if links > LINKS_MAX:
            return
        rest = [*(target.parts[1:] if target.is_absolute() else target.parts), *rest]
        current = Path(target.anchor) if target.is_absolute() else current.parent


def require_trusted(path: Path) -> None:
    """Raise SettingsError if others can change a file or a folder above it."""
    if untrusted := find_untrusted(path):
        raise SettingsError(untrusted)


def trusted_users(environment: Mapping[str, str]) -> set[int]:
    """Return the user ids of root and of the caller, also of the one who has become root with sudo."""
    caller = os.geteuid()
    behind_sudo = environment.get("SUDO_UID", "") if caller == 0 else ""
    return {0, caller, *([int(behind_sudo)] if behind_sudo.isdecimal() else [])}


def _check(path: Path, trusted: set[int], *, may_be_sticky: bool) -> Finding | None:
    try:
        status = path.lstat()
    except OSError:
        return None  # who can't look there can't read the file, which is reported
    if stat.S_ISLNK(status.st_mode):
        mode = 0
    elif may_be_sticky and stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        mode = 0  # in a sticky folder others can make entries, and can't replace those that are there
    else:
        mode = status.st_mode
    remedy = f"give it to root or to the user of inboxd, for these alone to write; or say {STRICT_MODES_VARIABLE}=no"
    if status.st_uid not in trusted:
        return Finding(str(path), f"belongs to {_user(status.st_uid)}, who can change what inboxd runs", remedy)
    if mode & stat.S_IWOTH:
        return Finding(str(path), f"everybody can write to it (mode {mode & 0o7777:04o}), and change what inboxd runs", remedy)
    if mode & stat.S_IWGRP and (_has_access_list(path) or not is_private_group(status.st_gid, trusted)):
        problem = f"the group {_group(status.st_gid)} can write to it (mode {mode & 0o7777:04o}), and change what inboxd runs"
        return Finding(str(path), problem, remedy)
    return None


def _has_access_list(path: Path) -> bool:
    """Return whether a POSIX ACL names further users or groups: then the mode's bits for the group are the ACL's mask."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access", follow_symlinks=False))
    except (OSError, AttributeError):
        return False


def is_private_group(group: int, trusted: set[int]) -> bool:
    """Return whether a group is root's, or has the name of a trusted user; and no other user is in it."""
    names = set(_names(trusted))
    try:
        entry = grp.getgrgid(group)
    except KeyError:
        return False
    if group != 0 and entry.gr_name not in names:
        return False
    return set(entry.gr_mem) <= names and all(user.pw_name in names for user in pwd.getpwall() if user.pw_gid == group)


def _names(users: set[int]) -> Iterator[str]:
    for user in users:
        try:
            yield pwd.getpwuid(user).pw_name
        except KeyError:
            continue


def _user(uid: int) -> str:
    return next(_names({uid}), f"the user {uid}")


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
