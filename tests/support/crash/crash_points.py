"""Which crash points a session has walked: the crash tests tell, and the session's last page shows it."""

from collections import Counter

Point = int | tuple[object, ...]
"""The number of an operation; with whatever else tells one point from another."""

_walked: set[tuple[str, str, str, Point]] = set()

KINDS = ("rename", "link", "copy")
"""How the disk moves a file: the order in which a path's operations are shown."""


def walked(path: str, fault: str, point: Point, kind: str = KINDS[0]) -> None:
    """Note that a path has met a fault at one of its operations."""
    _walked.add((path, kind, fault, point))


def table() -> list[str]:
    """Return a line for each path: its operations on each kind of disk, and the points where it met a fault; and the sums."""
    if not _walked:
        return []
    paths = sorted({path for path, *_ in _walked})
    rows = [f"{path:<44} {_operations(path):>12} {sum(1 for point in _walked if point[0] == path):>8}" for path in paths]
    faults = Counter(fault for _, _, fault, _ in _walked)
    return [
        f"{'path':<44} {'operations':>12} {'points':>8}",
        *rows,
        f"{'total':<44} {'':>12} {len(_walked):>8}",
        ", ".join(f"{fault} {count}" for fault, count in sorted(faults.items())),
        f"operations are those of disks that {', '.join(KINDS)}",
    ]


def _operations(path: str) -> str:
    most = Counter[str]()
    for name, kind, _, point in _walked:
        if name == path and isinstance(point, int):
            most[kind] = max(most[kind], point)
    return "/".join(str(most[kind]) for kind in KINDS if kind in most)
