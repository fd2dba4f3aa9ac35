"""The checks of `out` and of keys without effect, as `inboxd check` makes them."""

from pathlib import Path

import pytest

from inboxd.config.loading import load_settings
from inboxd.errors import Finding, SettingsError
from inboxd.service.preflight import create_folders, find_problems


def find(folder: Path, keys: str, more: str = "") -> list[Finding]:
    """Return what is found about an inbox with these keys, in folders that are there."""
    file = folder / "settings.toml"
    file.write_text(f'[inbox.a]\nroot = "{folder}/a"\n{keys}\n[inbox.b]\nroot = "{folder}/b"\n{more}\n')
    settings = load_settings(file)
    create_folders(
        settings.model_copy(update={"inbox": {n: i.model_copy(update={"out": ""}) for n, i in settings.inbox.items()}})
    )
    return find_problems(settings)


def test_a_folder_that_is_there_and_writable_is_fine(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    assert find(tmp_path, f'out = "{tmp_path}/out"') == []
    assert [*(tmp_path / "out").iterdir()] == []


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("gone", "does not exist"),
        ("b/inbox", "is in the folder inbox/ of b"),
        ("b/done/x", "is in done/ of the inbox b"),
        ("b", "contains the folders of the inbox b"),
        ("", "contains the folders of the inbox a"),
        ("settings.toml", "Not a directory"),
    ],
)
def test_a_folder_that_can_not_be_used_is_named(tmp_path: Path, out: str, problem: str) -> None:
    found = find(tmp_path, f'out = "{tmp_path}/{out}"')

    assert any(problem in str(finding) and finding.where.startswith("inbox.a.out") for finding in found)


@pytest.mark.parametrize(
    ("keys", "more", "problem"),
    [
        ('out = "inbox:"', "", "the name of the inbox is missing"),
        ('out = "inbox:c"', "", "there is no [inbox.c]"),
        ('out = "inbox:a"', "", "a > a"),
        ('out = "inbox:b"', 'out = "inbox:a"', "a > b > a"),
        ('out = "archive"', "", "inbox:archive"),
        ('outputs = "../x"', "", "a path below the folder"),
        ('outputs = "{nmae}"', "", "{nmae} is no placeholder"),
        ('task = "a.b"\nqueue = "unacked"', "", "the queue is the one"),
        ('task = "a:b.c"', "", "a.b.c"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, keys: str, more: str, problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        find(tmp_path, keys, more)

    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ('task = "a.b"\nout = "inbox:b"', "inbox.a.out"),
        ("keep_answer = true", "inbox.a.keep_answer"),
        ('command = ["true"]\ncopies_max = 7', "inbox.a.copies_max"),
        ('url = "http://localhost/"\nnice = 3', "inbox.a.nice"),
    ],
)
def test_keys_without_effect_are_noted(tmp_path: Path, keys: str, key: str) -> None:
    (finding,) = find(tmp_path, keys)

    assert finding.where == key
    assert "has no effect" in finding.problem
    assert not finding.blocks
