"""Record the crash points of the crash tests; tests/conftest.py adds them to the test reports and prints a table of them."""

from collections import Counter
from collections.abc import Collection, Iterable

Point = tuple[str, str, str, int | str]
"""A scenario's name, the kind of disk, the fault, and the number of the faulty operation or another text that identifies it."""

_recorded: set[Point] = set()

KINDS = ("rename", "link", "copy")
"""How disks move a file, in the order in which the table lists a scenario's operation counts."""


def record_crash_point(scenario: str, fault: str, operation: int | tuple[object, ...], kind: str = KINDS[0]) -> None:
    """Record that a scenario met a fault at one of its operations."""
    _recorded.add((scenario, kind, fault, operation if isinstance(operation, int) else str(operation)))


def drain() -> list[Point]:
    """Return the points recorded since the last call."""
    points = list(_recorded)
    _recorded.clear()
    return points


def table(points: Collection[Point]) -> list[str]:
    """Return the table's lines: each scenario's operations per kind of disk and number of points, then the totals."""
    if not points:
        return []
    per_scenario = Counter(scenario for scenario, *_ in points)
    rows = [f"{name:<44} {_operations(name, points):>12} {count:>8}" for name, count in sorted(per_scenario.items())]
    faults = Counter(fault for _, _, fault, _ in points)
    return [
        f"{'scenario':<44} {'operations':>12} {'points':>8}",
        *rows,
        f"{'total':<44} {'':>12} {len(points):>8}",
        ", ".join(f"{fault} {count}" for fault, count in sorted(faults.items())),
        f"operations: on disks that move a file by {', '.join(KINDS)}",
    ]


def _operations(scenario: str, points: Iterable[Point]) -> str:
    operations_max = Counter[str]()
    for name, kind, _, operation in points:
        if name == scenario and isinstance(operation, int):
            operations_max[kind] = max(operations_max[kind], operation)
    return "/".join(str(operations_max[kind]) for kind in KINDS if kind in operations_max)
