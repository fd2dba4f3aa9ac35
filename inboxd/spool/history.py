"""The earlier failures of a requeued file, stored in failed/ under the file's identity until it fails again.

The old note can't store them: a note without its file blocks its name for a minute and is deleted after an hour. The path is
no key either: another file may be dropped there. The identity is what a rename does not change: inode, mtime and size.
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
"""How long a history is kept, in seconds: a requeued file that has not failed again within a week has succeeded."""

_BYTES_MAX = 65_536
_MODE = 0o600


def history_name(stat: Stat) -> bytes:
    """Return the name in failed/ of a file's history."""
    identity = b"%d %d %d" % (stat.ino, stat.mtime_ns, stat.size)
    return TEMP_PREFIX + hashlib.sha256(identity).hexdigest()[:16].encode() + b".was"


def save_history(disk: Disk, failed: Fd, stat: Stat, lines: Sequence[str]) -> None:
    """Store a file's history, a line for each failure, and replace an earlier one. Raises OSError."""
    temp = TEMP_PREFIX + secrets.token_hex(8).encode() + b".note"
    # If we die before the rename: a temp, which retention removes.
    try:
        with closing(disk, disk.create(failed, temp, _MODE)) as file:
            disk.write(file, "\n".join([*lines, ""]).encode("utf-8", "replace"))
        disk.rename_over(failed, temp, failed, history_name(stat))
    except OSError:
        with contextlib.suppress(OSError):
            disk.unlink(failed, temp)
        raise


def load_history(disk: Disk, failed: Fd, stat: Stat) -> tuple[str, ...]:
    """Return a file's history, oldest failure first; () if there is none, or if it is unreadable."""
    try:
        with closing(disk, disk.open_file(failed, history_name(stat))) as file:
            text = disk.read(file, _BYTES_MAX)
    except OSError:
        return ()
    return trim_history(text.decode("utf-8", "replace").splitlines())


def delete_history(disk: Disk, failed: Fd, stat: Stat) -> None:
    """Remove a file's history, which its new note includes. On an error, retention removes it later."""
    with contextlib.suppress(OSError):
        disk.unlink(failed, history_name(stat))
