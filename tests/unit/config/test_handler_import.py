"""Handlers are imported from installed packages, or from the settings file's folder, which comes last."""

import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from inboxd.config.handler_import import (
    ShadowedModule,
    UnusableHandlerError,
    append_settings_folder,
    find_shadowed,
    import_handler,
)
from inboxd.handlers import describe


def test_a_handler_is_imported_by_its_name() -> None:
    assert import_handler("inboxd.handlers:describe") is describe


def test_a_handler_may_be_an_attribute_of_an_attribute() -> None:
    assert import_handler("pathlib:Path.exists") is Path.exists


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("no_such_module:handle", ModuleNotFoundError, "no_such_module"),
        ("inboxd.no_such_module:handle", ModuleNotFoundError, "no_such_module"),
        ("inboxd.handlers:no_such_function", AttributeError, "no_such_function"),
        ("inboxd.handlers:describe.no_such_attribute", AttributeError, "no_such_attribute"),
        ("inboxd.config.units:SECONDS", UnusableHandlerError, "inboxd.config.units:SECONDS is not callable"),
    ],
)
def test_a_missing_handler_raises(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        import_handler(name)


def test_a_module_that_is_added_later_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError):
        import_handler("added_later:handle")
    (tmp_path / "added_later.py").write_text("def handle(file): return 5")
    monkeypatch.syspath_prepend(tmp_path)  # invalidates the import caches

    assert import_handler("added_later:handle")(None) == 5  # type: ignore[arg-type]


def test_the_settings_files_folder_is_appended_to_the_import_path_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["elsewhere"])

    append_settings_folder(tmp_path / "settings.toml")
    append_settings_folder(tmp_path / "settings.toml")

    assert sys.path == ["elsewhere", str(tmp_path)]


@pytest.mark.parametrize("name", ["shadowed_module:handle", "shadowed_module.part:handle"])
def test_a_shadowed_module_is_returned_with_both_paths(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / "installed", tmp_path / "project"]
    for folder in folders:
        folder.mkdir()
        (folder / "shadowed_module.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, *map(str, folders)])

    assert find_shadowed(name) == ShadowedModule(*(str(folder / "shadowed_module.py") for folder in folders))


def test_a_package_shadows_a_module_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "installed" / "shadowed_file" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    (tmp_path / "shadowed_file.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(package.parents[1]), str(tmp_path)])

    assert find_shadowed("shadowed_file:handle") == ShadowedModule(str(package), str(tmp_path / "shadowed_file.py"))


def test_a_module_on_two_import_paths_is_not_shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "single_module.py").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), str(tmp_path / "link")])

    assert find_shadowed("single_module:handle") is None


@pytest.mark.parametrize("name", ["no_such_module:handle", "sys:exit", "__main__:handle"])
def test_a_missing_or_built_in_module_is_not_shadowed(name: str) -> None:
    assert find_shadowed(name) is None


def test_a_module_beside_the_settings_is_shadowed_by_one_that_is_built_into_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "time.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    assert find_shadowed("time:book") == ShadowedModule("Python's own module time", str(tmp_path / "time.py"))


class _Handler:
    def __call__(self, _file: object) -> None:
        pass


def _generator(_file: object) -> Iterator[int]:
    yield 1


async def _async_generator(_file: object) -> AsyncIterator[int]:
    yield 1


class _GeneratorObject:
    def __call__(self, _file: object) -> Iterator[int]:
        yield 1


UNUSABLE = {
    "a class": (_Handler, "is a class"),
    "a generator": (_generator, "is a generator"),
    "an asynchronous generator": (_async_generator, "is a generator"),
    "an object that is a generator": (_GeneratorObject(), "is a generator"),
    "a partial generator": (partial(_generator), "is a generator"),
    "a number": (7, "is not callable"),
}


@pytest.mark.parametrize(("handler", "why"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_would_do_nothing_is_no_handler(handler: object, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unusable", SimpleNamespace(handle=handler))
    import_handler.cache_clear()

    with pytest.raises(UnusableHandlerError, match=why):
        import_handler("unusable:handle")


async def _async_handler(_file: object) -> None:
    pass


@pytest.mark.parametrize("handler", [_Handler(), _async_handler, partial(_async_handler), _Handler().__call__])
def test_objects_methods_and_coroutines_are_handlers(handler: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usable", SimpleNamespace(handle=handler))
    import_handler.cache_clear()

    assert import_handler("usable:handle") is handler
