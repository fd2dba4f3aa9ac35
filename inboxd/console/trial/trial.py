"""Tries a handler on one file: on a copy in temporary folders, so that the file itself can't be changed."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inboxd.config.rules import Inbox
from inboxd.console.trial.process import Ended, Output, run_child
from inboxd.fs.owners import find_owner_name
from inboxd.fs.syscalls import Disk
from inboxd.intake.packing import Packed, build_parcel, pack
from inboxd.logs.text import describe_exit
from inboxd.messaging.outcome import Verdict
from inboxd.spool.layout import CLAIMED, FOLDER_NAMES, new_parcel_id, open_folders
from inboxd.spool.outputs import FILES, KEY_PATTERN, NAMED, OUTPUTS


@dataclass(frozen=True)
class Trial:
    """What a handler did with a file.

    ``verdict`` is None if the handler's process crashed, or ignored its time limit; ``reason`` then says how. ``left`` has the
    names of further files that the handler has left beside its file, and ``outputs`` those that it has made, with their sizes.
    """

    verdict: Verdict | None
    reason: str = ""
    seconds: float | None = None
    result: str | None = None
    discarded: str | None = None
    output: Output | None = None
    is_changed: bool = False
    is_gone: bool = False
    left: tuple[str, ...] = ()
    outputs: tuple[tuple[str, int], ...] = ()


def try_file(inbox: Inbox, path: Path, folders: Sequence[str], limit_seconds: int) -> Trial:
    """Run an inbox's handler on a copy of a file. ``folders`` are those that it is imported from. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="inboxd-try-", ignore_cleanup_errors=True) as place:
        parcel_id, root = new_parcel_id(), Path(place)
        for name in FOLDER_NAMES:
            (root / os.fsdecode(name)).mkdir()
        home = root / os.fsdecode(CLAIMED) / parcel_id
        home.mkdir()
        copy = home / path.name
        shutil.copy2(path, copy, follow_symlinks=False)
        packed = _pack(inbox, root, parcel_id, path)
        if packed.refused:
            return Trial(Verdict.REJECTED, packed.refused[0][1].reason)
        before = _version(copy)
        parcel = build_parcel(packed, parcel_id, inbox.model_copy(update={"root": root}), "")
        trial = _to_trial(run_child(inbox, folders, parcel, limit_seconds), limit_seconds)
        after = _version(copy)
        made = home / os.fsdecode(OUTPUTS)
        others = [other for other in home.rglob("*") if other.is_file() and other != copy and made not in other.parents]
        left = tuple(sorted(str(other.relative_to(home)) for other in others))
        return replace(
            trial, is_changed=after not in (None, before), is_gone=after is None, left=left, outputs=tuple(_list_outputs(made))
        )


def _list_outputs(made: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and size of each output that would be delivered: not of what a step has kept for the next one."""
    for run in made.glob("*"):
        if KEY_PATTERN.fullmatch(os.fsencode(run.name)):
            for files in (run / os.fsdecode(NAMED), run / os.fsdecode(FILES)):
                yield from (
                    (str(output.relative_to(files)), output.stat().st_size)
                    for output in sorted(files.rglob("*"))
                    if output.is_file() and not output.is_symlink()
                )


def _pack(inbox: Inbox, root: Path, parcel: str, path: Path) -> Packed:
    """Pack the copy as the watcher packs a claimed file; the owner is that of the original."""
    disk = Disk()
    with open_folders(disk, root) as folders:
        packed = pack(disk, folders, inbox, parcel, [os.fsencode(path.name)])
    uid = path.lstat().st_uid
    name = find_owner_name(uid)
    owner: dict[str, str | float] = {"uid": uid, **({"owner": name} if name else {})} if inbox.claim != "copy" else {}
    return replace(packed, parts=[replace(part, headers=part.headers | owner) for part in packed.parts])


def _version(path: Path) -> tuple[int, int, int] | None:
    """Return what filing compares: a file with another mode was changed, too. None if it is gone."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _to_trial(ended: Ended, limit_seconds: int) -> Trial:
    if ended.report is not None:
        call = ended.report
        verdict, reason = Verdict(call["verdict"]), call["reason"] or ""
        return Trial(verdict, reason, call["seconds"], call["result"], call["discarded"], ended.output)
    if ended.was_killed:
        return Trial(
            None, f"the handler went on after its time limit of {limit_seconds} s, and was killed", output=ended.output
        )
    return Trial(None, f"the handler's process ended: {describe_exit(ended.exit_code or 0)}", output=ended.output)
