"""Lock state_dir, so that one `up` runs at a time, and create private folders in it."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inboxd.config.settings import Settings
from inboxd.config.strict_modes import require_trusted
from inboxd.errors import Finding, SettingsError

STATE_DIR_REMEDY = "make its folder writable, or set state_dir to another path"


@contextmanager
def locked_state_dir(settings: Settings) -> Iterator[None]:
    """Hold state_dir/up.lock, which contains this process's pid. Raises SettingsError if another `up` holds it."""
    path = Path(settings.state_dir) / "up.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        require_trusted(path)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
        remedy = "stop that process, or set another state_dir"
        raise SettingsError([Finding(str(path), problem, remedy)]) from None
    os.truncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())


def make_private_folder(folder: Path, mode: int = 0o700) -> None:
    """Create a folder with this mode, or set it on an existing folder of this user.

    Raises SettingsError if another user owns the path (in /tmp anybody can create it first), or if it can't be created.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            remedy = "remove it, or set state_dir to another, short path"
            raise SettingsError([Finding(str(folder), "is not a folder that this user owns", remedy)])
        folder.chmod(mode)
    except OSError as error:
        raise SettingsError([Finding(str(folder), f"can't be created: {error.strerror}", STATE_DIR_REMEDY)]) from error
