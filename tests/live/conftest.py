"""Fixtures of all live tests: stands that are closed after their test; a failure report shows the stands' logs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.live.stand import Stand, Table


@pytest.fixture
def make_stand(tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    """Yield a function that makes a stand; all stands are closed after the test."""
    with ExitStack() as stack:

        def make(inboxes: dict[str, Table] | None = None, **settings: Table) -> Stand:
            folder = tmp_path / f"stand{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(Stand(folder, inboxes, **settings))

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add the last log lines of all open stands to a failed test's report."""
    del item
    report: pytest.TestReport = yield
    if report.failed:
        for stand in Stand.open_stands:
            report.sections += [(f"the end of {p.log}", p.tail()) for p in stand.programs.values() if p.log.exists()]
    return report
