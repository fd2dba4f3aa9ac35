"""What is wrong with a step of a chain: in words that name the step and the key."""

from pathlib import Path

import pytest

from inboxd.config.loading import load_settings
from inboxd.errors import SettingsError


def findings(tmp_path: Path, line: str) -> str:
    file = tmp_path / "settings.toml"
    file.write_text(f'[inbox.a]\nroot = "{tmp_path}"\n{line}\n')
    with pytest.raises(SettingsError) as raised:
        load_settings(file)
    return str(raised.value)


@pytest.mark.parametrize("key", ["handler", "steps"])
@pytest.mark.parametrize(
    ("step", "where", "words"),
    [
        ('{ comand = ["true"] }', "inbox.a, step 2 of the chain, comand (", "did you mean command?"),
        ('{ command = ["true"], retries = 3 }', "inbox.a, step 2 of the chain, retries (", "move it beside handler"),
        ('{ task = "a.b" }', "inbox.a, step 2 of the chain, task (", "an inbox of its own"),
        ('["gzip", "{path}"]', "inbox.a, step 2 of the chain", 'write "module:function", or a table'),
        ('{ command = ["true"], nice = 90 }', "inbox.a, step 2 of the chain, nice = '90' (", "write at most 19"),
    ],
)  # fmt: skip
def test_a_step_is_named_with_its_key(key: str, step: str, where: str, words: str, tmp_path: Path) -> None:
    found = findings(tmp_path, f'{key} = ["scan:check", {step}]')

    assert where in found
    assert words in found


def test_a_chain_of_no_step_is_refused(tmp_path: Path) -> None:
    assert "a chain has at least one step" in findings(tmp_path, "handler = []")


def test_a_list_of_codes_is_asked_for_as_numbers(tmp_path: Path) -> None:
    assert "write a list of numbers: [0, 3]" in findings(tmp_path, 'command = ["true"]\nreject_codes = 1')
