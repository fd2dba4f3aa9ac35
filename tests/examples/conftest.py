"""The fixtures of all tests of examples: stands of any kind, and stands that run an example; all are closed after the test."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from live.conftest import make_stand, pytest_runtest_makereport
from support.examples.example_stand import ExampleStand

__all__ = ["make_stand", "pytest_runtest_makereport"]


@pytest.fixture
def make_example(tmp_path: Path) -> Iterator[Callable[..., ExampleStand]]:
    """Yield a function that makes a stand of an example; all stands are closed after the test."""
    with ExitStack() as stack:

        def make(
            example: str, adapt: Mapping[str, str] | None = None, variables: Mapping[str, str] | None = None
        ) -> ExampleStand:
            return stack.enter_context(ExampleStand(tmp_path / example, example, adapt, variables))

        yield make
