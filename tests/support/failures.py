"""Files that have failed, as a worker's callback leaves them."""

from support.spools import Spool

from spool.disk import Disk
from spool.failing import fail
from spool.folders import new_parcel_id
from spool.store import claim, discard


def fail_one(spool: Spool, path: bytes, reason: str = "no total", attempts: int = 1) -> None:
    """Take a file from inbox/, and let it fail."""
    parcel = new_parcel_id()
    with spool.folders() as folders:
        claim(Disk(), folders, parcel, [path])
        assert fail(Disk(), folders, spool.inbox(), parcel, path, reason, attempts=attempts) is not None
        discard(Disk(), folders, parcel)


def drop_and_fail(spool: Spool, path: bytes, reason: str = "no total", attempts: int = 1) -> None:
    """Drop a file, whose content is its path, and let it fail."""
    spool.put(b"inbox/" + path, path)
    fail_one(spool, path, reason, attempts)
