"""What is in flight: the parcels in claimed/, counted against the inbox's limits."""

import time
from dataclasses import dataclass

from inboxd.config.settings import Inbox
from inboxd.fs.syscalls import Disk
from inboxd.intake.batching import RECENT_SECONDS
from inboxd.messaging.payload import Parcel
from inboxd.spool.claims import list_files, list_parcels
from inboxd.spool.layout import Folders, created_at


@dataclass(frozen=True, slots=True)
class ParcelLoad:
    """How many files a parcel holds, and how many bytes it carries inside its message."""

    files: int
    inline_bytes: int


class InFlight:
    """The parcels of one inbox. claimed/ is the truth; what is remembered saves looking into each of them again."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._parcels: dict[str, ParcelLoad] = {}

    def refresh(self, disk: Disk, folders: Folders) -> None:
        """Bring the count up to date; parcels of other makers are looked into once, their bytes unknown. Raises OSError."""
        known = self._parcels
        self._parcels = {
            parcel: known.get(parcel) or ParcelLoad(len(list_files(disk, folders, parcel)), 0)
            for parcel in list_parcels(disk, folders)
        }

    def add(self, parcel: Parcel) -> None:
        """Count a parcel that leaves now."""
        self._parcels[parcel.id] = ParcelLoad(len(parcel.files), parcel.inline_bytes)

    @property
    def capacity(self) -> int:
        """How many files more may be claimed; 0 or less: none until a parcel returns."""
        if sum(load.inline_bytes for load in self._parcels.values()) >= self._inbox.in_flight_bytes_max:
            return 0
        return self._inbox.in_flight_files_max - sum(load.files for load in self._parcels.values())

    @property
    def recent_parcels(self) -> int:
        """How many parcels left a moment ago: the ones that it is worth waiting for."""
        since = time.time() - RECENT_SECONDS
        return sum(1 for parcel in self._parcels if created_at(parcel) > since)
