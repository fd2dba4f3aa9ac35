"""Make failed files as a worker's callback does."""

from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.spool.claims import claim, remove_if_empty
from inboxd.spool.failing import fail_file
from inboxd.spool.failure import Failure, FailureKind
from inboxd.spool.layout import new_parcel_id


def fail_one(spool: Spool, path: bytes, reason: str = "no total", attempts: int = 1) -> None:
    """Claim a file in inbox/ and move it to failed/ with an error note."""
    parcel = new_parcel_id()
    with spool.folders() as folders:
        claim(Disk(), folders, parcel, [path])
        failure = Failure(FailureKind.REJECTED, reason)
        assert fail_file(Disk(), folders, spool.inbox(), parcel, path, failure, attempts=attempts) is not None
        remove_if_empty(Disk(), folders, parcel)


def drop_and_fail(spool: Spool, path: bytes, reason: str = "no total", attempts: int = 1) -> None:
    """Drop a file, whose content is its path, and move it to failed/ with an error note."""
    spool.put(b"inbox/" + path, path)
    fail_one(spool, path, reason, attempts)
