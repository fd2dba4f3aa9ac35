"""Record the crash points that the crash tests run; conftest.py prints them at the end of the session."""

from collections import Counter

Point = int | tuple[object, ...]
"""The number of the operation that met the fault; a tuple where one number does not identify the point."""

_recorded: set[tuple[str, str, str, Point]] = set()

KINDS = ("rename", "link", "copy")
"""How disks move a file, in the order in which the table lists a scenario's operation counts."""


def walked(scenario: str, fault: str, point: Point, kind: str = KINDS[0]) -> None:
    """Record that a scenario has met a fault at one of its operations."""
    _recorded.add((scenario, kind, fault, point))


def table() -> list[str]:
    """Return the table's lines: each scenario's operations per kind of disk and number of crash points, then the totals."""
    if not _recorded:
        return []
    points = Counter(scenario for scenario, *_ in _recorded)
    rows = [f"{scenario:<44} {_operations(scenario):>12} {count:>8}" for scenario, count in sorted(points.items())]
    faults = Counter(fault for _, _, fault, _ in _recorded)
    return [
        f"{'scenario':<44} {'operations':>12} {'points':>8}",
        *rows,
        f"{'total':<44} {'':>12} {len(_recorded):>8}",
        ", ".join(f"{fault} {count}" for fault, count in sorted(faults.items())),
        f"operations: on disks that move a file by {', '.join(KINDS)}",
    ]


def _operations(scenario: str) -> str:
    operations_max = Counter[str]()
    for name, kind, _, point in _recorded:
        if name == scenario and isinstance(point, int):
            operations_max[kind] = max(operations_max[kind], point)
    return "/".join(str(operations_max[kind]) for kind in KINDS if kind in operations_max)
