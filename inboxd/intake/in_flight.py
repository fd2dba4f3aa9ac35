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
    """The number of files in a parcel, the content bytes in its message, and when it was made (Unix time)."""

    files: int
    inline_bytes: int
    made_at: float


class InFlight:
    """The parcels of one inbox that are in flight, as listed in claimed/; the load of each is cached.

    Thousands may be in flight, and each new parcel asks for their sums: they are kept.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._parcels: dict[str, ParcelLoad] = {}
        self._files = self._inline_bytes = 0
        self._recent: list[float] = []

    def refresh(self, disk: Disk, folders: Folders) -> None:
        """List the parcels again; those that another process made are listed once, and count as 0 bytes. Raises OSError."""
        cached, oldest = self._parcels, time.time() - RECENT_SECONDS
        self._parcels = {
            parcel: cached.get(parcel) or ParcelLoad(len(list_files(disk, folders, parcel)), 0, created_at(parcel))
            for parcel in list_parcels(disk, folders)
        }
        loads = self._parcels.values()
        self._files = sum(load.files for load in loads)
        self._inline_bytes = sum(load.inline_bytes for load in loads)
        self._recent = [load.made_at for load in loads if load.made_at > oldest]

    def add(self, parcel: Parcel) -> None:
        """Count a parcel that is about to be sent."""
        load = ParcelLoad(len(parcel.files), parcel.inline_bytes, created_at(parcel.id))
        self._parcels[parcel.id] = load
        self._files += load.files
        self._inline_bytes += load.inline_bytes
        self._recent.append(load.made_at)

    @property
    def capacity(self) -> int:
        """How many more files may be claimed; 0 or less until a parcel is filed."""
        return 0 if self._inline_bytes >= self._inbox.in_flight_bytes_max else self._inbox.in_flight_files_max - self._files

    @property
    def recent_parcels(self) -> int:
        """How many parcels were made less than RECENT_SECONDS ago, so that a small batch may wait for one to be filed."""
        now = time.time()  # a parcel from the future was made before the clock was set back
        return sum(1 for made_at in self._recent if now - RECENT_SECONDS < made_at <= now + CLOCK_SKEW_SECONDS)
