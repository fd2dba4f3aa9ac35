"""Notes about settings that are hardly meant as they are written."""

from pathlib import Path, PurePath

import pytest

from inboxd.config.settings import Settings
from inboxd.errors import Finding
from inboxd.fs.syscalls import Disk, Fd
from inboxd.service.setup_notes import find_notes


class DiskOf(Disk):
    """A disk whose folders are all on one mount of a given type."""

    def __init__(self, file_system: str) -> None:
        self._table = f"7 1 0:1 / / rw - {file_system} none rw"

    def mount_id(self, fd: Fd) -> int:
        del fd
        return 7

    def read_text(self, path: PurePath) -> str:
        return self._table if path.name == "mountinfo" else super().read_text(path)


def notes(root: Path, file_system: str = "ext4", **rules: object) -> list[Finding]:
    settings = Settings(inbox={"drop": {"root": str(root), **rules}})
    return list(find_notes(settings, DiskOf(file_system)))


@pytest.mark.parametrize("file_system", ["tmpfs", "ramfs"])
def test_a_root_in_memory_is_a_note(file_system: str, tmp_path: Path) -> None:
    [note] = notes(tmp_path, file_system)

    assert note.where == f"inbox.drop.root, {tmp_path}"
    assert note.problem.startswith(f"is in memory ({file_system})")
    assert not note.blocks


@pytest.mark.parametrize("file_system", ["ext4", "nfs4"])
def test_a_root_on_a_disk_or_a_server_is_no_note(file_system: str, tmp_path: Path) -> None:
    assert notes(tmp_path, file_system) == []


def test_a_missing_root_is_left_to_the_checks_before_a_start(tmp_path: Path) -> None:
    assert notes(tmp_path / "missing", "tmpfs") == []


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"include": ["*.part"]}, "x.part would be ignored"),
        ({"include": ["*.pdf"], "exclude": ["*.PDF"]}, "exclude = '*.PDF' matches"),
        ({"include": ["*.csv"], "temporary_names": ["*.csv"]}, "x.csv would be ignored"),
        ({"include": ["/invoices/*.pdf"]}, "matches no file"),
        ({"exclude": ["*"]}, "exclude = '*' matches"),
    ],
)
def test_a_pattern_whose_files_are_ignored_is_a_note(rules: dict[str, object], reason: str, tmp_path: Path) -> None:
    [note] = notes(tmp_path, **rules)

    assert note.where == "inbox.drop.include"
    assert reason in note.problem
    assert not note.blocks


@pytest.mark.parametrize("include", ["*.pdf", "*", "invoices/*.pdf", "scan_??.tif", "[a-z]*.xml", "README"])
def test_a_pattern_that_takes_files_is_no_note(include: str, tmp_path: Path) -> None:
    assert notes(tmp_path, include=[include]) == []
