"""Our own folders: state_dir with its lock, which lets one `up` at a time in, and the private ones within."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inboxd.config.settings import Settings
from inboxd.errors import Finding, SettingsError

STATE_DIR_REMEDY = "make it writable, or set state_dir to another place"


@contextmanager
def locked_state_dir(settings: Settings) -> Iterator[None]:
    """Hold state_dir/up.lock, which names our process. Raises SettingsError when another `up` holds it."""
    path = Path(settings.state_dir) / "up.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError([Finding(str(path), f"can't be written: {error.strerror}", STATE_DIR_REMEDY)]) from error
    try:
        _acquire(lock, path)
        yield
    finally:
        os.close(lock)


def _acquire(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        problem = f"another `inboxd up` runs with this state_dir (process {holder})"
        remedy = "stop that one first, or give this one a state_dir of its own"
        raise SettingsError([Finding(str(path), problem, remedy)]) from None
    os.truncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())


def make_private_folder(folder: Path) -> None:
    """Make a folder that only we can enter; take back what rights others have to one of ours.

    Raises SettingsError when it is somebody else's (in /tmp anybody can be there first), or can't be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            remedy = "remove it, or set state_dir to another place, one with a short path"
            raise SettingsError([Finding(str(folder), "is not a folder of ours", remedy)])
        folder.chmod(0o700)
    except OSError as error:
        raise SettingsError([Finding(str(folder), f"can't be made: {error.strerror}", STATE_DIR_REMEDY)]) from error
