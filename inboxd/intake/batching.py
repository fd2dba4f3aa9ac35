"""How many files share a parcel, and when it leaves: Nagle's rule, fitted to the handler's pace. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

PARCEL_WORK_SECONDS = 0.1
"""A parcel aims at so much work: small against a person's patience, large against a message's cost."""

PACKING_SECONDS_MAX = 0.5
"""… and to pack one takes no longer, on a slow disk: its lease is running, and other inboxes wait."""

PARCELS_SENT_AT_ONCE = 2
"""While fewer parcels are on their way, one leaves at once, however small."""

PARCELS_IN_FLIGHT_MAX = 5
"""From so many on, one fills up until another returns; in between it has to be the fuller, the more there are."""

RECENT_SECONDS = 1.0
"""An older parcel is no company to wait for: it waits for a retry, or its handler is slow."""

UNKNOWN_RATE_PARCELS_MAX = 16
"""So many parcels of one leave before the handler's pace is known."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A ready file: its path below inbox/, its size in bytes, and what tells it from a changed one (size, mtime)."""

    path: bytes
    size: int
    version: tuple[int, int] = (0, 0)


def files_per_parcel(seconds_per_file: float | None, files_max: int, packing_seconds_per_file: float | None) -> int:
    """Return how many files a parcel should hold.

    ``pace`` is the handler's mean seconds per file, ``own_pace`` what it took to claim and pack one; None if unknown.
    """
    if seconds_per_file is None or packing_seconds_per_file is None:
        return 1
    return max(
        1,
        min(
            files_max,
            int(PARCEL_WORK_SECONDS / max(seconds_per_file, 1e-6)),
            int(PACKING_SECONDS_MAX / max(packing_seconds_per_file, 1e-6)),
        ),
    )


def next_batch(ready: Iterable[Candidate], files_max: int, bytes_max: int) -> list[Candidate]:
    """Return the first of the ready files that fit one parcel: at least one, if there is any."""
    bundle: list[Candidate] = []
    room = bytes_max
    for file in ready:
        if bundle and (len(bundle) >= files_max or file.size > room):
            break
        bundle.append(file)
        room -= file.size
    return bundle


def may_send(files: int, target: int, seconds_per_file: float | None, in_flight: int) -> bool:
    """Decide whether a parcel of ``files`` leaves now, with so many young parcels on their way."""
    if seconds_per_file is None:
        return in_flight < UNKNOWN_RATE_PARCELS_MAX
    steps = PARCELS_IN_FLIGHT_MAX - PARCELS_SENT_AT_ONCE + 1
    return files * steps >= target * min(in_flight - PARCELS_SENT_AT_ONCE + 1, steps)
