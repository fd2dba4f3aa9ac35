"""A page for each test."""

from pathlib import Path

import pytest
from support.web import Page


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """Return a page without a password."""
    return Page(tmp_path)
