"""Importing handlers, and the folder beside the settings file, which comes last."""

import sys
from pathlib import Path

import pytest

from inboxd.config.handler_import import Hidden, NotCallableError, append_settings_folder, hidden_module, import_handler
from inboxd.handlers import describe


def test_a_handler_is_found_by_its_name() -> None:
    assert import_handler("inboxd.handlers:describe") is describe


def test_a_handler_may_be_an_attribute_of_an_attribute() -> None:
    assert import_handler("pathlib:Path.exists") is Path.exists


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("no_such_module:handle", ModuleNotFoundError, "no_such_module"),
        ("inboxd.no_such_module:handle", ModuleNotFoundError, "no_such_module"),
        ("inboxd.handlers:no_such_function", AttributeError, "no_such_function"),
        ("inboxd.handlers:describe.no_such_thing", AttributeError, "no_such_thing"),
        ("inboxd.handlers:SNIFF_BYTES", NotCallableError, "inboxd.handlers:SNIFF_BYTES is not callable"),
    ],
)
def test_a_handler_that_is_not_there_is_told(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        import_handler(name)


def test_a_module_that_is_mended_is_found_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError):
        import_handler("mended_later:handle")
    (tmp_path / "mended_later.py").write_text("def handle(file): return 5")
    monkeypatch.syspath_prepend(tmp_path)  # forgets what import has seen of this folder

    assert import_handler("mended_later:handle")(None) == 5  # type: ignore[arg-type]


def test_handlers_are_imported_from_beside_the_settings_file_after_all_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["elsewhere"])

    append_settings_folder(tmp_path / "settings.toml")
    append_settings_folder(tmp_path / "settings.toml")

    assert sys.path == ["elsewhere", str(tmp_path)]


@pytest.mark.parametrize("name", ["hidden_here:handle", "hidden_here.part:handle"])
def test_a_module_that_another_hides_is_told_with_both_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "installed", tmp_path / "project"]
    for folder in folders:
        folder.mkdir()
        (folder / "hidden_here.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, *map(str, folders)])

    assert hidden_module(name) == Hidden(*(str(folder / "hidden_here.py") for folder in folders))


def test_a_package_and_a_module_of_one_name_hide_each_other_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "installed" / "hidden_there" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    (tmp_path / "hidden_there.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(package.parents[1]), str(tmp_path)])

    assert hidden_module("hidden_there:handle") == Hidden(str(package), str(tmp_path / "hidden_there.py"))


def test_one_module_by_two_paths_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "once_only.py").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), str(tmp_path / "link")])

    assert hidden_module("once_only:handle") is None


@pytest.mark.parametrize("name", ["no_such_module:handle", "sys:exit", "__main__:handle"])
def test_what_is_no_file_or_not_there_at_all_is_not_hidden(name: str) -> None:
    assert hidden_module(name) is None
