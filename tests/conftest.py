"""Own folders for the pytests that tests run; at the end, the crash points of all of the run's processes are printed."""

import os
from collections.abc import Iterator

import pytest
from support.crash import crash_points

CRASH_POINTS = "crash points"

_points: set[crash_points.Point] = set()


@pytest.fixture(scope="session", autouse=True)
def _own_folders_of_inner_pytests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A pytest that a test runs would else remove old folders of the same parent as this one does, and warn of the race."""
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(tmp_path_factory.getbasetemp())


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
