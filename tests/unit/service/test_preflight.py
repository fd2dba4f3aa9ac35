"""Before the start: what is wrong with the folders and handlers, and its remedy."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.repository import REPOSITORY

from inboxd.config.settings import Settings
from inboxd.errors import Finding, SettingsError
from inboxd.fs.syscalls import Disk, Fd
from inboxd.service.preflight import create_folders, find_problems, require_no_problems

TOPS = ("inbox", "claimed", "done", "failed")

CHILD = """
import json, os, sys
from inboxd.service.preflight import find_problems
from inboxd.config.settings import Settings

settings = Settings(inbox={"drop": {"root": sys.argv[1]}})
if "nobody" in sys.argv and os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(json.dumps([[found.where, found.problem, found.remedy] for found in find_problems(settings, handlers=False)]))
"""
MOUNTS = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "sh", "-ec"]


class MountsDisk(Disk):
    """Every folder whose name ends so is on a mount of its own."""

    def __init__(self, elsewhere: str) -> None:
        self._elsewhere = elsewhere

    def mount_id(self, fd: Fd) -> int:
        return 2**31 if Path(f"/proc/self/fd/{fd}").readlink().name == self._elsewhere else super().mount_id(fd)


def settings(*roots: Path, **rules: object) -> Settings:
    return Settings(host="here", inbox={f"drop{number}": {"root": str(root), **rules} for number, root in enumerate(roots)})


def made(root: Path) -> Path:
    create_folders(settings(root))
    return root


def entries(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_mode, path.lstat().st_ino) for path in root.rglob("*"))


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def in_child(argv: list[str]) -> list[Finding]:
    done = subprocess.run(argv, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [Finding(*found) for found in json.loads(done.stdout)]


@pytest.fixture
def public() -> Iterator[Path]:
    """Make a root that everybody can reach and write to, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory(prefix="inboxd-tests-") as folder:
        root = Path(folder)
        for path in (root, *(made(root) / top for top in TOPS)):
            path.chmod(0o777)
        yield root
        for top in TOPS:
            (root / top).chmod(0o777)


def test_nothing_is_wrong_with_folders_that_were_just_made(tmp_path: Path) -> None:
    root = made(tmp_path / "drop")

    assert find_problems(settings(root)) == []
    require_no_problems(settings(root))


def test_the_check_leaves_no_trace(tmp_path: Path) -> None:
    root = made(tmp_path)
    (root / "inbox" / "a").write_text("content")
    before = entries(root)

    find_problems(settings(root))

    assert entries(root) == before


def test_settings_without_an_inbox_are_a_finding() -> None:
    found = only(find_problems(settings()))

    assert found.where == "inbox"
    assert "[inbox.NAME]" in found.remedy


@pytest.mark.parametrize(("one", "other"), [("a", "a"), ("a", "a/b/c"), ("a/b", "a")])
def test_roots_within_roots_are_a_finding(tmp_path: Path, one: str, other: str) -> None:
    roots = made(tmp_path / one), made(tmp_path / other)

    found = only(find_problems(settings(*roots)))

    assert "inbox.drop0.root and inbox.drop1.root" in found.where
    assert all(str(root) in found.problem for root in roots)
    assert found.remedy


def test_a_root_that_is_another_one_by_a_link_is_a_finding(tmp_path: Path) -> None:
    root = made(tmp_path / "a")
    (tmp_path / "b").symlink_to(root)

    assert "one folder" in only(find_problems(settings(root, tmp_path / "b"))).problem


def test_roots_side_by_side_are_fine(tmp_path: Path) -> None:
    assert find_problems(settings(made(tmp_path / "a"), made(tmp_path / "ab"))) == []


def test_of_three_roots_every_pair_is_looked_at(tmp_path: Path) -> None:
    roots = made(tmp_path / "a"), made(tmp_path / "b"), made(tmp_path / "a" / "c")

    assert "inbox.drop0.root and inbox.drop2.root" in only(find_problems(settings(*roots))).where


@pytest.mark.parametrize("missing", ["", *TOPS])
def test_a_missing_folder_is_named_with_its_remedy(tmp_path: Path, missing: str) -> None:
    root = tmp_path / "drop"
    if missing:
        (made(root) / missing).rmdir()

    found = only(find_problems(settings(root)))

    assert found.where == "inbox.drop0.root"
    assert f"{root / missing}: No such file or directory" in found.problem
    assert f"mkdir -p {root}/" in found.remedy


@pytest.mark.parametrize("top", TOPS)
def test_a_link_in_a_folders_place_is_a_finding(tmp_path: Path, top: str) -> None:
    root = made(tmp_path / "drop")
    (root / top).rmdir()
    (root / top).symlink_to(made(tmp_path / "other") / top)

    assert str(root / top) in only(find_problems(settings(root))).problem


def test_every_finding_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        require_no_problems(settings(tmp_path / "a", tmp_path / "b", handler="no_such_module:handle"))

    assert [found.where.split(".")[1] for found in raised.value.findings] == ["drop0", "drop0", "drop1", "drop1"]


@pytest.mark.parametrize("top", TOPS)
def test_a_folder_that_can_not_be_written_to_is_named_with_its_remedy(public: Path, top: str) -> None:
    (public / top).chmod(0o555)

    found = only(in_child([sys.executable, "-c", CHILD, str(public), "nobody"]))

    assert str(public / top) in found.where
    assert found.problem == "Permission denied"
    assert "service's user" in found.remedy


@pytest.mark.parametrize("top", TOPS)
def test_a_check_that_fails_leaves_no_trace_either(public: Path, top: str) -> None:
    (public / top).chmod(0o555)
    before = entries(public)

    in_child([sys.executable, "-c", CHILD, str(public), "nobody"])

    assert entries(public) == before


def test_a_folder_that_can_not_be_looked_into_is_named(public: Path) -> None:
    (public / "claimed").chmod(0)

    found = only(in_child([sys.executable, "-c", CHILD, str(public), "nobody"]))

    assert f"{public / 'claimed'}: Permission denied" in found.problem


@pytest.mark.parametrize("elsewhere", ["claimed", "done", "failed"])
def test_folders_that_are_said_to_be_on_two_mounts_are_a_finding(tmp_path: Path, elsewhere: str) -> None:
    root = made(tmp_path)

    found = only(find_problems(settings(root), MountsDisk(elsewhere)))

    assert str(root / elsewhere) in found.where
    assert "another mount" in found.problem
    assert "one volume" in found.remedy


def test_an_inbox_on_a_mount_of_its_own_is_a_finding_for_each_other_folder(tmp_path: Path) -> None:
    findings = find_problems(settings(made(tmp_path)), MountsDisk("inbox"))

    assert [Path(found.where.split(", ")[1]).name for found in findings] == ["claimed", "done", "failed"]


def test_folders_that_are_on_two_mounts_are_a_finding(tmp_path: Path) -> None:
    root = made(tmp_path)
    script = 'mount -t tmpfs none "$1/done"; exec "$2" -c "$3" "$1"'

    found = only(in_child([*MOUNTS, script, "sh", str(root), sys.executable, CHILD]))

    assert str(root / "done") in found.where
    assert f"({root / 'done'}, tmpfs)" in found.problem


def test_a_folder_that_is_bound_upon_itself_is_on_another_mount_too(tmp_path: Path) -> None:
    root = made(tmp_path)
    script = 'mount --bind "$1/failed" "$1/failed"; exec "$2" -c "$3" "$1"'

    found = only(in_child([*MOUNTS, script, "sh", str(root), sys.executable, CHILD]))

    assert str(root / "failed") in found.where
    assert "another mount" in found.problem


@pytest.mark.parametrize(
    ("option", "problem", "remedy"),
    [
        ("remount,ro", "Read-only file system", "ReadWritePaths"),
        ("remount,nr_inodes=5", "No space left on device", "make room"),
    ],
)
def test_a_disk_that_takes_no_file_is_a_finding_with_its_remedy(tmp_path: Path, option: str, problem: str, remedy: str) -> None:
    script = """
        mount -t tmpfs none "$1"; cd "$1"; mkdir inbox claimed done failed; mount -o "$4" "$1"
        cd "$5"; exec "$2" -c "$3" "$1"
    """

    found = only(in_child([*MOUNTS, script, "sh", str(tmp_path), sys.executable, CHILD, option, str(REPOSITORY)]))

    assert found.problem == problem
    assert remedy in found.remedy


HANDLERS = {
    "good.py": "def handle(file): ...",
    "number.py": "handle = 5",
    "broken.py": "raise RuntimeError('no licence')",
    "wrong.py": "def handle(file: ...",
    "script.py": "import sys\nsys.exit(0)",
}


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        ("no_such_module_of_ours:handle", "ModuleNotFoundError"),
        ("preflight_good:no_such_function", "AttributeError"),
        ("preflight_number:handle", "not callable"),
        ("preflight_broken:handle", "RuntimeError: no licence"),
        ("preflight_wrong:handle", "SyntaxError"),
        ("preflight_script:handle", "SystemExit"),
    ],
)
def test_a_handler_that_can_not_be_used_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str, problem: str
) -> None:
    for name, text in HANDLERS.items():
        (tmp_path / f"preflight_{name}").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    found = only(find_problems(settings(made(tmp_path / "drop"), handler=handler)))

    assert handler in found.where
    assert problem in found.problem
    assert found.remedy


def test_a_handler_is_not_imported_when_nobody_here_calls_it(tmp_path: Path) -> None:
    root = made(tmp_path)

    assert find_problems(settings(root, handler="no_such_module_of_ours:handle"), handlers=False) == []


def test_folders_are_made_with_claimed_for_the_service_alone(tmp_path: Path) -> None:
    root = tmp_path / "new" / "drop"
    umask = os.umask(0o002)

    try:
        create_folders(settings(root))
    finally:
        os.umask(umask)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()}
    assert modes == {"inbox": 0o775, "claimed": 0o700, "done": 0o775, "failed": 0o775}


def test_making_folders_again_changes_nothing(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "inbox").chmod(0o2770)
    (tmp_path / "claimed" / "a").write_text("content")
    before = entries(tmp_path)

    made(tmp_path)

    assert entries(tmp_path) == before


def test_what_is_missing_is_made_and_the_rest_left(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "done").rmdir()
    (tmp_path / "inbox" / "a").write_text("content")

    made(tmp_path)

    assert (tmp_path / "done").is_dir()
    assert (tmp_path / "inbox" / "a").read_text() == "content"


def test_folders_that_can_not_be_made_are_told_for_every_inbox_and_the_others_are_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError) as raised:
        create_folders(settings(tmp_path / "file", tmp_path / "good", tmp_path / "file" / "below"))

    assert [found.where.split(".")[1] for found in raised.value.findings] == ["drop0", "drop2"]
    assert all(found.remedy for found in raised.value.findings)
    assert (tmp_path / "good" / "failed").is_dir()
