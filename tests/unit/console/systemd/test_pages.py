"""Man pages and completion scripts: what the tree has is what the commands say, and the installation links to the release."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import REPOSITORY

from inboxd.console.main import COMMANDS
from inboxd.console.systemd.install_paths import InstallPaths, system_paths
from inboxd.console.systemd.pages import link_pages, remove_pages

SHARE = REPOSITORY / "deploy/share"


def texts(share: Path) -> dict[str, str]:
    return {str(path.relative_to(share)): path.read_text() for path in share.rglob("*") if path.is_file()}


@pytest.fixture
def places(tmp_path: Path) -> InstallPaths:
    return system_paths(tmp_path / "root")


def make_release(folder: Path, *pages: str) -> Path:
    for page in pages:
        (folder / "share" / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / "share" / page).write_text(folder.name)
    return folder


def test_the_pages_of_the_tree_are_those_of_the_commands(tmp_path: Path) -> None:
    program = REPOSITORY / "deploy/pages.py"

    subprocess.run([sys.executable, program, tmp_path], check=True)

    assert texts(tmp_path) == texts(SHARE), "run: make pages"
    assert {f"man/man1/inboxd-{command}.1" for command in COMMANDS} < texts(SHARE).keys()


def test_every_line_of_a_page_is_shown() -> None:
    escape = runpy.run_path(str(REPOSITORY / "deploy/pages.py"))["_escape"]

    assert escape(".part files are ignored") == r"\&.part files are ignored"
    assert escape(".TH x") == ".TH x"
    lines = [line for name, text in texts(SHARE).items() if name.startswith("man/") for line in text.splitlines()]
    assert not [line for line in lines if re.match(r"[.'](?!TH |SH |PP$|B |TP$)", line)]


def test_bash_completes_commands_options_and_inboxes(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[inbox.invoices]\nroot = "a"\n[inbox.scans]\nroot = "b"\n')
    (tmp_path / "inboxd").symlink_to(Path(sys.executable).parent / "inboxd")
    script = f"""
    source {SHARE}/bash-completion/completions/inboxd
    complete() {{ COMP_WORDS=(inboxd "$@"); COMP_CWORD=$#; COMPREPLY=(); _inboxd_completion inboxd; echo "${{COMPREPLY[@]}}"; }}
    complete exp
    complete retry --dry
    complete retry --inbox i
    complete log --settings /nowhere --inbox i
    """
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "INBOXD_SETTINGS": str(settings)}

    result = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, check=True, text=True)

    assert result.stdout.splitlines() == ["explain", "--dry-run", "invoices", ""], result.stderr


def test_an_installation_links_to_the_current_release(places: InstallPaths, tmp_path: Path) -> None:
    release = make_release(tmp_path / "current", "man/man1/inboxd.1", "zsh/site-functions/_inboxd", "man/man1/celery.1")

    assert link_pages(places, release) == 2

    assert (places.share / "man/man1/inboxd.1").read_text() == "current"
    assert (places.share / "zsh/site-functions/_inboxd").is_symlink()
    assert not (places.share / "man/man1/celery.1").is_symlink()


def test_an_upgrade_removes_the_links_of_commands_that_are_gone(places: InstallPaths, tmp_path: Path) -> None:
    release = make_release(tmp_path / "current", "man/man1/inboxd.1", "man/man1/inboxd-old.1")
    link_pages(places, release)
    (release / "share/man/man1/inboxd-old.1").unlink()

    assert link_pages(places, release) == 1

    assert not (places.share / "man/man1/inboxd-old.1").is_symlink()


def test_files_of_others_stay(places: InstallPaths, tmp_path: Path) -> None:
    release = make_release(tmp_path / "current", "man/man1/inboxd.1")
    own = places.share / "man/man1/inboxd.1"
    own.parent.mkdir(parents=True)
    own.write_text("the administrator's")

    assert link_pages(places, release) == 0
    remove_pages(places, release)

    assert own.read_text() == "the administrator's"


def test_the_links_are_removed_with_the_services(places: InstallPaths, tmp_path: Path) -> None:
    release = make_release(tmp_path / "current", "man/man1/inboxd.1", "fish/vendor_completions.d/inboxd.fish")
    link_pages(places, release)

    remove_pages(places, release)

    assert not [path for path in places.share.rglob("*") if not path.is_dir()]
