"""The pages of docs/ that are generated, and the links of the pages that are not part of the site."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from support.repository import REPOSITORY

from inboxd.config.settings import Settings

ROW = re.compile(r"\| `(\w+)` \|.*\| `([^`]*)` \|")
HEADING = re.compile(r"## .*?(?:\[([\w.]+)\]|$)")
TOP_PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]


@pytest.fixture(scope="module")
def settings_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_page", REPOSITORY / "docs/settings_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def examples(page: str) -> list[tuple[str, str]]:
    """Return table and line of each example; the table of all inboxes is "defaults"."""
    found, table = [], ""
    for line in page.splitlines():
        if line.startswith("## "):
            table = "inbox.drop" if line.startswith("## Only") else (re.search(r"\[(\w+)\]", line) or ["", ""])[1]
        elif row := ROW.match(line):
            found.append((table, f"{row[1]} = {row[2]}"))
    return found


def test_the_page_of_the_settings_is_current(settings_page: ModuleType) -> None:
    assert (REPOSITORY / "docs/settings.md").read_text("utf-8") == settings_page.page(), "run `make docs`"


def test_each_example_of_the_page_is_accepted(settings_page: ModuleType) -> None:
    found = examples(settings_page.page())

    for table, line in found:
        own = {"root": "/srv/drop"} if table != "inbox.drop" else {}
        values = {"inbox": {"drop": own}}
        keys = tomllib.loads(line)
        if table == "inbox.drop":
            values["inbox"]["drop"] |= keys
        elif table:
            values[table] = keys  # type: ignore[assignment]
        else:
            values |= keys
        Settings(**values)  # type: ignore[arg-type]
    assert len(found) > 50


def test_each_key_of_the_page_has_a_meaning(settings_page: ModuleType) -> None:
    rows = [line.split(" | ") for line in settings_page.page().splitlines() if ROW.match(line)]

    assert [row[0] for row in rows if not row[1].strip()] == []


@pytest.mark.parametrize("name", TOP_PAGES)
def test_the_links_of_a_page_lead_somewhere(name: str) -> None:
    text = (REPOSITORY / name).read_text("utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]

    assert [target for target in targets if not Path(REPOSITORY, target).exists()] == []
