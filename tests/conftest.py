"""The summary of a run shows the crash points that its tests have walked, in however many processes."""

from collections.abc import Iterator

import pytest
from support.crash import crash_points

CRASH_POINTS = "crash points"

_walked: set[crash_points.Point] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Iterator[None]:
    """Attach a test's points to its report, which is all that a process of pytest-xdist sends."""
    report: pytest.TestReport = yield
    if call.when == "call" and (points := crash_points.drain()):
        report.user_properties.append((CRASH_POINTS, points))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the points of each test that has ended."""
    _walked.update(tuple(point) for name, points in report.user_properties if name == CRASH_POINTS for point in points)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the collected points."""
    if lines := crash_points.table(_walked):
        terminalreporter.section(CRASH_POINTS)
        terminalreporter.write("\n".join([*lines, ""]))
