"""Trouble with an inbox's folders as a whole: a full disk, a lost mount. Redis keys for each inbox, which expire.

Who meets it leaves word, so that nothing more is claimed for an inbox whose files could not be filed away; the sweep tries one
parcel from time to time, and takes the word back.
"""

import contextlib
import errno
import secrets
from collections.abc import Iterable
from pathlib import PurePath
from typing import cast

import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.errors import FolderUnavailable
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk
from inboxd.spool.layout import CLAIMED_MODE, open_folders

KEY = "inboxd:outage:"
AWAY_KEY = "inboxd:unavailable:"
EXPIRES_SECONDS = 300
"""Each sweep that meets the trouble again says so anew; the word of a host that is no more must not stay."""

INBOX_WIDE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What every other file would meet, too."""

_AMBIGUOUS_ERRORS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO)
"""What may be one file's own: a bad sector, a folder with odd permissions."""


def is_inbox_wide(disk: Disk, root: PurePath, error: Exception) -> bool:
    """Tell whether an error is about the inbox as a whole: then every other file would meet it, too."""
    if isinstance(error, FolderUnavailable):
        return True
    if not isinstance(error, OSError):
        return False
    return error.errno in INBOX_WIDE_ERRORS or (error.errno in _AMBIGUOUS_ERRORS and not _may_write(disk, root))


def _may_write(disk: Disk, root: PurePath) -> bool:
    """Try whether something can be made in each folder that files are moved to."""
    probe = TEMP_PREFIX + secrets.token_hex(8).encode()
    try:
        with open_folders(disk, root) as folders:
            for folder in (folders.claimed, folders.done, folders.failed):
                # If we die here: an empty folder of ours, which nobody minds.
                disk.mkdir(folder, probe, CLAIMED_MODE)
                with contextlib.suppress(FileNotFoundError):
                    disk.rmdir(folder, probe)
    except (OSError, FolderUnavailable):
        return False
    return True


def record_outage(client: redis.Redis, host: str, inbox: str, why: str, *, seen_by: str = "") -> bool:
    """Leave word of trouble, or that it goes on; returns whether that is news. Raises BrokerAway.

    Where it is the folders themselves that are missing, everybody sees that, and their return, for himself: then ``seen_by``
    says who has.
    """
    with translate_redis_errors():
        before = cast("bytes | None", client.set(_key(host, inbox, seen_by), why, ex=EXPIRES_SECONDS, get=True))
    return before != why.encode()


def clear_outage(client: redis.Redis, host: str, inbox: str, *seen_by: str) -> bool:
    """Take word back, that of these witnesses ("": of what could not be filed); returns whether there was some.

    Raises BrokerAway.
    """
    with translate_redis_errors():
        return bool(client.delete(*(_key(host, inbox, witness) for witness in seen_by)))


def read_outages(client: redis.Redis, host: str, inboxes: Iterable[str], seen_by: str = "") -> dict[str, str]:
    """Return why nothing can be filed, for each inbox of which that is so; or what this witness has left. Raises BrokerAway."""
    names = list(inboxes)
    if not names:
        return {}
    with translate_redis_errors():
        found = cast("list[bytes | None]", client.mget([_key(host, name, seen_by) for name in names]))
    return {name: why.decode("utf-8", "replace") for name, why in zip(names, found, strict=True) if why is not None}


def _key(host: str, inbox: str, seen_by: str = "") -> str:
    return f"{AWAY_KEY}{seen_by}:{host}:{inbox}" if seen_by else f"{KEY}{host}:{inbox}"
