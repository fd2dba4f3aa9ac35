"""Count the parcels in claimed/ against the inbox's in-flight limits."""

import time
from dataclasses import dataclass

from inboxd.broker.recovery import CLOCK_SKEW_SECONDS
from inboxd.config.rules import Inbox
from inboxd.fs.syscalls import Disk
from inboxd.intake.batching import RECENT_SECONDS
from inboxd.messaging.payload import Parcel
from inboxd.spool.claims import list_files, list_parcels
from inboxd.spool.layout import Folders, created_at


@dataclass(frozen=True, slots=True)
class ParcelLoad:
    """The number of files in a parcel, and of content bytes in its message."""

    files: int
    inline_bytes: int


class InFlight:
    """The parcels of one inbox that are in flight, as listed in claimed/; the load of each is cached."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._parcels: dict[str, ParcelLoad] = {}

    def refresh(self, disk: Disk, folders: Folders) -> None:
        """List the parcels again; those that another process made are listed once, and count as 0 bytes. Raises OSError."""
        cached = self._parcels
        self._parcels = {
            parcel: cached.get(parcel) or ParcelLoad(len(list_files(disk, folders, parcel)), 0)
            for parcel in list_parcels(disk, folders)
        }

    def add(self, parcel: Parcel) -> None:
        """Count a parcel that is about to be sent."""
        self._parcels[parcel.id] = ParcelLoad(len(parcel.files), parcel.inline_bytes)

    @property
    def capacity(self) -> int:
        """How many more files may be claimed; 0 or less until a parcel is filed."""
        if sum(load.inline_bytes for load in self._parcels.values()) >= self._inbox.in_flight_bytes_max:
            return 0
        return self._inbox.in_flight_files_max - sum(load.files for load in self._parcels.values())

    @property
    def recent_parcels(self) -> int:
        """How many parcels were made less than RECENT_SECONDS ago, so that a small batch may wait for one to be filed."""
        now = time.time()  # a parcel from the future was made before the clock was set back
        return sum(1 for parcel in self._parcels if now - RECENT_SECONDS < created_at(parcel) <= now + CLOCK_SKEW_SECONDS)
