"""Checks the folder that an inbox's outputs go to before a start: it is there, and files can be moved into it."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import PurePath

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import Finding, FolderUnavailable
from inboxd.fs.bounded import run_on_mounts
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk, closing
from inboxd.spool.layout import FOLDER_NAMES, INBOX

MOUNT_SECONDS = 2.0
_PROBE_PREFIX = TEMP_PREFIX + b"probe-"


def check_outputs(disk: Disk, settings: Settings) -> Iterator[Finding]:
    """Yield findings about each folder that is named by ``out``. A probe file is made in it and removed."""
    for inbox in settings.inbox.values():
        if inbox.out and not inbox.next_inbox:
            yield from _check_out(disk, settings, inbox)


def _check_out(disk: Disk, settings: Settings, inbox: Inbox) -> Iterator[Finding]:
    where, folder = f"inbox.{inbox.name}.out, {inbox.out}", PurePath(inbox.out)
    for other in settings.inbox.values():
        inner = next((name for name in FOLDER_NAMES if folder.is_relative_to(other.root / name.decode())), None)
        if inner == INBOX:
            yield Finding(where, f"is in the folder inbox/ of {other.name}", f'write out = "inbox:{other.name}"')
        elif other.root.is_relative_to(folder):
            yield Finding(
                where, f"contains the folders of the inbox {other.name}", "name a folder of its own, beside the inboxes"
            )
        elif inner:
            yield Finding(where, f"is in {inner.decode()}/ of the inbox {other.name}", "name a folder of its own")
    try:
        run_on_mounts(disk, folder, lambda: _probe(disk, folder), MOUNT_SECONDS)
    except FileNotFoundError:
        yield Finding(where, "does not exist", "make it, or mount its file system; `inboxd up` makes it by itself")
    except FolderUnavailable as error:
        yield Finding(where, str(error), "finished files wait until it answers", blocks=False)
    except OSError as error:
        yield Finding(where, error.strerror or str(error), "make it a folder that the service's user can write to")


def _probe(disk: Disk, folder: PurePath) -> None:
    name = _PROBE_PREFIX + secrets.token_hex(8).encode()
    with closing(disk, disk.open_root(folder)) as at:
        try:
            disk.close(disk.create(at, name, 0o600))
        finally:
            with contextlib.suppress(OSError):
                disk.unlink(at, name)
