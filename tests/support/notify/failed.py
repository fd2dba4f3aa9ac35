"""Make failed files with their notes, quickly."""

from pathlib import Path

from inboxd.spool.error_note import format_note, note_name
from inboxd.spool.failure import FailureKind
from inboxd.spool.layout import new_parcel_id


def write_failed(root: Path, path: bytes, reason: str = "no total", *, is_output: bool = False) -> None:
    """Write a file and its note into failed/, as a worker leaves them."""
    file = root / "failed" / path.decode()
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = FailureKind.OUTPUT if is_output else FailureKind.RAISED
    note = format_note(path, reason, inbox="drop", parcel=new_parcel_id(), attempts=1, failed_at=0.0, kind=kind)
    (file.parent / note_name(path.rpartition(b"/")[2]).decode()).write_bytes(note)
    file.write_bytes(b"content")
