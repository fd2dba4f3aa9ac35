"""The crash points that tests have walked: each test's points travel with its report, and the run's summary shows them."""

from collections import Counter
from collections.abc import Collection, Iterable

Point = tuple[str, str, str, int | str]
"""A path's name, the kind of disk, the fault, and the number of the operation, or else the text that identifies it."""

_walked: set[Point] = set()

KINDS = ("rename", "link", "copy")
"""How the disk moves a file: the order in which a path's operations are shown."""


def walked(path: str, fault: str, operation: int | tuple[object, ...], kind: str = KINDS[0]) -> None:
    """Record that a path met a fault at one of its operations."""
    _walked.add((path, kind, fault, operation if isinstance(operation, int) else str(operation)))


def drain() -> list[Point]:
    """Return the points that were recorded since the last call."""
    points = list(_walked)
    _walked.clear()
    return points


def table(points: Collection[Point]) -> list[str]:
    """Return a line for each path: its operations on each kind of disk, and the points where it met a fault; and the sums."""
    if not points:
        return []
    per_path = Counter(path for path, *_ in points)
    rows = [f"{path:<44} {_operations(path, points):>12} {count:>8}" for path, count in sorted(per_path.items())]
    faults = Counter(fault for _, _, fault, _ in points)
    return [
        f"{'path':<44} {'operations':>12} {'points':>8}",
        *rows,
        f"{'total':<44} {'':>12} {len(points):>8}",
        ", ".join(f"{fault} {count}" for fault, count in sorted(faults.items())),
        f"operations are those of disks that {', '.join(KINDS)}",
    ]


def _operations(path: str, points: Iterable[Point]) -> str:
    most = Counter[str]()
    for name, kind, _, operation in points:
        if name == path and isinstance(operation, int):
            most[kind] = max(most[kind], operation)
    return "/".join(str(most[kind]) for kind in KINDS if kind in most)
