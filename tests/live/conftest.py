"""What all live tests share: stands that end with their test, and the logs of those that failed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.live.stand import Stand, Table


@pytest.fixture
def make_stand(tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    """Make stands for one test; they are closed after it."""
    with ExitStack() as stack:

        def make(inboxes: dict[str, Table] | None = None, **settings: Table) -> Stand:
            folder = tmp_path / f"stand{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(Stand(folder, inboxes, **settings))

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the tails of the logs of all open stands with a test that failed."""
    del item
    report: pytest.TestReport = yield
    if report.failed:
        for stand in Stand.open:
            report.sections += [(f"the end of {p.log}", p.tail()) for p in stand.programs.values() if p.log.exists()]
    return report
