"""Outages that affect an inbox as a whole, such as a full disk or a lost mount: expiring Redis keys of each inbox.

While an outage is recorded, the watcher claims nothing for the inbox: the files could not be filed. Each stale sweep tries to
file again, and clears the outage when that succeeds.
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
from inboxd.fs.syscalls import OUT_OF_RESOURCES, Disk
from inboxd.spool.layout import CLAIMED_MODE, open_folders

KEY = "inboxd:outage:"
UNAVAILABLE_KEY = "inboxd:unavailable:"
EXPIRES_SECONDS = 300
"""Each sweep that meets the outage records it again; the record of a host that was removed expires."""

INBOX_WIDE_ERRORS = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers that affect all files of an inbox."""

_AMBIGUOUS_ERRORS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO)
"""Error numbers that may affect one file only, such as one on a bad sector or on a read-only sub-mount."""


def is_inbox_wide(disk: Disk, root: PurePath, error: Exception) -> bool:
    """Return whether an error affects all files of an inbox, and not only the one that raised it."""
    if isinstance(error, FolderUnavailable):
        return True
    if not isinstance(error, OSError):
        return False
    return error.errno in INBOX_WIDE_ERRORS or (error.errno in _AMBIGUOUS_ERRORS and not _is_writable(disk, root))


def _is_writable(disk: Disk, root: PurePath) -> bool:
    """Return whether an entry can be created in each folder that files are moved to."""
    probe = TEMP_PREFIX + secrets.token_hex(8).encode()
    try:
        with open_folders(disk, root) as folders:
            for folder in (folders.claimed, folders.done, folders.failed):
                # If we die here: an empty folder with a temporary name stays behind; it does no harm.
                disk.mkdir(folder, probe, CLAIMED_MODE)
                with contextlib.suppress(FileNotFoundError):
                    disk.rmdir(folder, probe)
    except FolderUnavailable:
        return False
    except OSError as error:
        return error.errno in OUT_OF_RESOURCES  # then this process is to blame
    return True


def record_inbox_outage(client: redis.Redis, host: str, inbox: str, why: str, *, sweep: str = "") -> bool:
    """Record an outage, or that it continues; return whether it is new or has another reason. Raises BrokerUnavailable.

    ``sweep`` is "" if files can't be filed. If the folders are missing, it names the sweep: each sweep records and clears
    that outage for itself.
    """
    with translate_redis_errors():
        before = cast("bytes | None", client.set(_key(host, inbox, sweep), why, ex=EXPIRES_SECONDS, get=True))
    return before != why.encode()


def clear_inbox_outage(client: redis.Redis, host: str, inbox: str, *sweeps: str) -> bool:
    """Clear the outages that were recorded with these ``sweeps``; return whether there were any. Raises BrokerUnavailable."""
    with translate_redis_errors():
        return bool(client.delete(*(_key(host, inbox, name) for name in sweeps)))


def read_inbox_outages(client: redis.Redis, host: str, inboxes: Iterable[str], sweep: str = "") -> dict[str, str]:
    """Return the reason of each outage that is recorded with this ``sweep``, by inbox. Raises BrokerUnavailable."""
    names = list(inboxes)
    if not names:
        return {}
    with translate_redis_errors():
        reasons = cast("list[bytes | None]", client.mget([_key(host, name, sweep) for name in names]))
    return {name: why.decode("utf-8", "replace") for name, why in zip(names, reasons, strict=True) if why is not None}


def _key(host: str, inbox: str, sweep: str = "") -> str:
    return f"{UNAVAILABLE_KEY}{sweep}:{host}:{inbox}" if sweep else f"{KEY}{host}:{inbox}"
