"""What was told to whom, in a small file in state_dir/notify: only a message that was sent changes it."""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath
from typing import Any

from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, closing

FOLDER = "notify"
RECORD = b"state.json"
UNKNOWN_SECONDS = 3600.0
"""What is not in the file (a new URL, a new inbox, a lost file) begins this long ago, in seconds."""

_DECODE_ERRORS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


@dataclass(frozen=True, slots=True)
class Mark:
    """How far an inbox was told: the time of its last failure in nanoseconds; why it was paused, or stuck, "" if it was not."""

    failed_ns: int
    paused: str = ""
    stuck: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """What was told to one URL, of which ``label`` may be shown. Times are unix seconds.

    ``sent_at`` has the times of the last hour's messages. If the last try failed: the number of tries since ``failing_since``,
    the last ``error``, and the time of the next try.
    """

    label: str
    marks: Mapping[str, Mark] = field(default_factory=dict)
    sent_at: tuple[float, ...] = ()
    tries: int = 0
    failing_since: float = 0.0
    error: str = ""
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True)
class NotifyState:
    """The recipients by the id of their URL; and ``problems``: why nothing can be told of an inbox, or at all."""

    recipients: Mapping[str, Recipient] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def with_recipient(self, key: str, recipient: Recipient) -> "NotifyState":
        """Return the state with one recipient changed."""
        return replace(self, recipients={**self.recipients, key: recipient})


def load_state(disk: Disk, state_dir: PurePath) -> NotifyState | None:
    """Return the stored state, None if there is none. Raises OSError, and ValueError if it can't be decoded."""
    try:
        text = disk.read_text(state_dir / FOLDER / RECORD.decode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        table = json.loads(text)
        recipients = {str(key): _to_recipient(value) for key, value in table["recipients"].items()}
        return NotifyState(recipients, tuple(map(str, table["problems"])))
    except _DECODE_ERRORS as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def save_state(disk: Disk, state_dir: PurePath, state: NotifyState) -> None:
    """Replace the file. Raises OSError."""
    text = json.dumps(asdict(state)).encode()
    with closing(disk, _open_state_folder(disk, state_dir)) as folder:
        temp = TEMP_PREFIX + RECORD
        # If we die before the rename: a temp, which the next save replaces; the last message is sent again.
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(folder, temp)
        with closing(disk, disk.create(folder, temp, _FILE_MODE)) as file:
            disk.write(file, text)
            disk.fsync(file)
        disk.rename_over(folder, temp, folder, RECORD)


def _open_state_folder(disk: Disk, state_dir: PurePath) -> int:
    with contextlib.suppress(FileNotFoundError):
        return disk.open_root(state_dir / FOLDER)
    disk.make_path(state_dir)
    with closing(disk, disk.open_root(state_dir)) as top:
        with contextlib.suppress(FileExistsError):
            disk.mkdir(top, FOLDER.encode(), _FOLDER_MODE)
        return disk.open_folder(top, FOLDER.encode())


def _to_recipient(table: Mapping[str, Any]) -> Recipient:
    times = [float(at) for at in (*table["sent_at"], table["failing_since"], table["retry_at"])]
    if not all(map(math.isfinite, times)):
        raise ValueError("a time is not finite")
    *sent_at, failing_since, retry_at = times
    marks = {
        str(inbox): Mark(int(mark["failed_ns"]), str(mark["paused"]), str(mark["stuck"]))
        for inbox, mark in table["marks"].items()
    }
    tries, error = int(table["tries"]), str(table["error"])
    return Recipient(str(table["label"]), marks, tuple(sent_at), tries, failing_since, error, retry_at)
