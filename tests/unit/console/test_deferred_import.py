"""A package whose import is deferred runs when one of its names is looked up."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from inboxd.console.deferred_import import defer_import


@pytest.fixture
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "outer_package" / "inner"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("from outer_package import inner\n")
    (folder / "__init__.py").write_text("from outer_package.inner.part import NAME\nruns = 1\n")
    (folder / "part.py").write_text("NAME = 'part'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    defer_import("outer_package.inner")
    yield
    for name in [name for name in sys.modules if name.startswith("outer_package")]:
        del sys.modules[name]


@pytest.mark.usefixtures("_package")
def test_the_package_runs_at_the_first_name_that_is_looked_up() -> None:
    outer = import_module("outer_package")
    assert "outer_package.inner.part" not in sys.modules

    assert outer.inner.NAME == "part"

    assert "outer_package.inner.part" in sys.modules


@pytest.mark.usefixtures("_package")
def test_a_module_of_the_package_is_imported_without_the_package() -> None:
    part = import_module("outer_package.inner.part")

    assert part.NAME == "part"
    assert "runs" not in vars(sys.modules["outer_package.inner"])


@pytest.mark.usefixtures("_package")
def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    outer = import_module("outer_package")

    with pytest.raises(AttributeError, match=r"module 'outer_package.inner' has no attribute 'missing'"):
        _ = outer.inner.missing
    assert outer.inner.runs == 1


def test_a_package_that_is_imported_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    finders = len(sys.meta_path)

    defer_import("json")

    assert len(sys.meta_path) == finders
