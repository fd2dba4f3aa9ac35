"""Decide how many files share a parcel and when it is sent: Nagle's algorithm, adapted to the handler's speed. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

PARCEL_WORK_SECONDS = 0.1
"""Target handler time of one parcel, in seconds: too short for a person to notice, long compared with a message's overhead."""

PACKING_SECONDS_MAX = 0.5
"""Maximum seconds to claim and pack one parcel on a slow disk: meanwhile its lease runs and other inboxes wait."""

PARCELS_SENT_AT_ONCE = 2
"""With fewer recent parcels in flight than this, a parcel is sent at once, however small."""

PARCELS_IN_FLIGHT_MAX = 5
"""From this many recent parcels in flight on, only full parcels are sent; below, the required fill grows with their number."""

RECENT_SECONDS = 1.0
"""Seconds after which a parcel no longer delays others: it waits for a retry, or its handler is slow."""

UNKNOWN_RATE_PARCELS_MAX = 16
"""Maximum single-file parcels in flight until the handler's speed is known."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A ready file: its path relative to inbox/, its size in bytes, and its version (see inspection.FileVersion).

    ``by_copy``: it is claimed by a copy, so that nobody can reach the claimed file by another name or an open descriptor.
    """

    path: bytes
    size: int
    version: tuple[int, int] = (0, 0)
    by_copy: bool = False


def files_per_parcel(seconds_per_file: float | None, files_max: int, packing_seconds_per_file: float | None) -> int:
    """Return how many files a parcel should hold, at least one and at most ``files_max``.

    ``seconds_per_file`` is the handler's mean, ``packing_seconds_per_file`` the time to claim and pack one; None if unknown.
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
    """Return the first ready files that fit one parcel: always one if any is ready, even if it exceeds ``bytes_max``."""
    batch: list[Candidate] = []
    bytes_left = bytes_max
    for file in ready:
        if batch and (len(batch) >= files_max or file.size > bytes_left):
            break
        batch.append(file)
        bytes_left -= file.size
    return batch


def may_send(files: int, target: int, seconds_per_file: float | None, in_flight: int) -> bool:
    """Return whether to send a parcel of ``files`` files now, given ``in_flight`` recent parcels; ``target`` files fill one."""
    if seconds_per_file is None:
        return in_flight < UNKNOWN_RATE_PARCELS_MAX
    steps = PARCELS_IN_FLIGHT_MAX - PARCELS_SENT_AT_ONCE + 1
    return files * steps >= target * min(in_flight - PARCELS_SENT_AT_ONCE + 1, steps)
