"""Print the crash points of a test run at its end, collected from all of its processes."""

from collections.abc import Iterator

import pytest
from support.crash import crash_points

CRASH_POINTS = "crash points"

_points: set[crash_points.Point] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add a test's crash points to its report, the only thing that a process of pytest-xdist sends."""
    report: pytest.TestReport = yield
    if call.when == "call" and (points := crash_points.drain()):
        report.user_properties.append((CRASH_POINTS, points))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the crash points in a test's report."""
    _points.update(tuple(point) for name, points in report.user_properties if name == CRASH_POINTS for point in points)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of the collected crash points."""
    if lines := crash_points.table(_points):
        terminalreporter.section(CRASH_POINTS)
        terminalreporter.write("\n".join([*lines, ""]))
