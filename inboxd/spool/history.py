"""What a file that was put back has failed of before: kept in failed/ under the file's identity until it fails again.

Not in the old note: without its file a note keeps a name from others for a minute, and is gone after an hour. And not under the
file's path: another file may be dropped under that. The identity is what a rename leaves as it is: inode, time, size.
"""

import contextlib
import hashlib
import re
import secrets
from collections.abc import Sequence

from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, Fd, Stat, closing
from inboxd.spool.error_note import trim_history

HISTORY_NAME = re.compile(rb"\.inboxd-[0-9a-f]{16}\.was")
KEEP_SECONDS = 7 * 86_400.0
"""A file that has not failed again within a week of being put back has gone well; retention removes its history then."""

_BYTES_MAX = 65_536
_MODE = 0o600


def history_name(look: Stat) -> bytes:
    """Return the name, in failed/, of the history of the file that looks so."""
    identity = b"%d %d %d" % (look.ino, look.mtime_ns, look.size)
    return TEMP_PREFIX + hashlib.sha256(identity).hexdigest()[:16].encode() + b".was"


def save_history(disk: Disk, failed: Fd, look: Stat, lines: Sequence[str]) -> None:
    """Keep a file's history, a line for each failure. What was kept of it before is replaced. Raises OSError."""
    temp = TEMP_PREFIX + secrets.token_hex(8).encode() + b".note"
    # If we die here, before the rename: a temp, which retention removes.
    try:
        with closing(disk, disk.create(failed, temp, _MODE)) as file:
            disk.write(file, "\n".join([*lines, ""]).encode("utf-8", "replace"))
        disk.rename_over(failed, temp, failed, history_name(look))
    except OSError:
        with contextlib.suppress(OSError):
            disk.unlink(failed, temp)
        raise


def load_history(disk: Disk, failed: Fd, look: Stat) -> tuple[str, ...]:
    """Return a file's history, the oldest failure first; nothing if there is none, or if it can't be read."""
    try:
        with closing(disk, disk.open_file(failed, history_name(look))) as file:
            text = disk.read(file, _BYTES_MAX)
    except OSError:
        return ()
    return trim_history(text.decode("utf-8", "replace").splitlines())


def delete_history(disk: Disk, failed: Fd, look: Stat) -> None:
    """Remove a file's history: a note tells it now. What can't be removed is left to retention."""
    with contextlib.suppress(OSError):
        disk.unlink(failed, history_name(look))
