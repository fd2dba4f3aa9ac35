"""Preflight checks of folders and handlers: each problem is a finding with a remedy."""

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

FOLDERS = ("inbox", "claimed", "done", "failed")

CHECK = """
import json, os, sys
from inboxd.service.preflight import find_problems
from inboxd.config.settings import Settings

settings = Settings(inbox={"drop": {"root": sys.argv[1]}})
if "nobody" in sys.argv and os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(json.dumps([[finding.where, finding.problem, finding.remedy] for finding in find_problems(settings, handlers=False)]))
"""
UNSHARE_MOUNTS = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "sh", "-ec"]


class MountsDisk(Disk):
    """A disk on which the folder with the given name is on a separate mount."""

    def __init__(self, mounted: str) -> None:
        self._mounted = mounted

    def mount_id(self, fd: Fd) -> int:
        return 2**31 if Path(f"/proc/self/fd/{fd}").readlink().name == self._mounted else super().mount_id(fd)


def settings(*roots: Path, **rules: object) -> Settings:
    return Settings(host="here", inbox={f"drop{number}": {"root": str(root), **rules} for number, root in enumerate(roots)})


def create_inbox(root: Path) -> Path:
    create_folders(settings(root))
    return root


def entries(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_mode, path.lstat().st_ino) for path in root.rglob("*"))


def single(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def run_check(argv: list[str]) -> list[Finding]:
    result = subprocess.run(argv, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [Finding(*fields) for fields in json.loads(result.stdout)]


@pytest.fixture
def public_root() -> Iterator[Path]:
    """Create an inbox that all users can access and write to, unlike tmp_path."""
    with tempfile.TemporaryDirectory(prefix="inboxd-tests-") as path:
        root = Path(path)
        for public in (root, *(create_inbox(root) / folder for folder in FOLDERS)):
            public.chmod(0o777)
        yield root
        for folder in FOLDERS:
            (root / folder).chmod(0o777)


def test_new_folders_have_no_findings(tmp_path: Path) -> None:
    root = create_inbox(tmp_path / "drop")

    assert find_problems(settings(root)) == []
    require_no_problems(settings(root))


def test_the_check_changes_nothing(tmp_path: Path) -> None:
    root = create_inbox(tmp_path)
    (root / "inbox" / "a").write_text("content")
    before = entries(root)

    find_problems(settings(root))

    assert entries(root) == before


@pytest.mark.parametrize(
    ("include", "problem", "remedy"),
    [
        ([], "no file is taken", '"*"'),
        (["pdf"], "'pdf' matches only files of exactly this name", "'*.pdf'"),
        ([".pdf"], "'.pdf' matches only", "'*.pdf'"),
        (["*.txt", "csv"], "'csv' matches only", "'*.csv'"),
    ],
)
def test_patterns_that_take_hardly_any_file_are_a_note(tmp_path: Path, include: list[str], problem: str, remedy: str) -> None:
    finding = single(find_problems(settings(create_inbox(tmp_path), include=include)))

    assert finding.where == "inbox.drop0.include"
    assert problem in finding.problem
    assert remedy in finding.remedy
    assert not finding.blocks


@pytest.mark.parametrize("include", [["*"], ["*.pdf"], ["invoice.csv"], ["scan?"], ["[ab]"], ["in/*"]])
def test_other_patterns_are_none(tmp_path: Path, include: list[str]) -> None:
    assert find_problems(settings(create_inbox(tmp_path), include=include)) == []


def test_no_inbox_is_a_finding() -> None:
    finding = single(find_problems(settings()))

    assert finding.where == "inbox"
    assert "[inbox.NAME]" in finding.remedy


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("a", "a/b/c"), ("a/b", "a")])
def test_nested_roots_are_a_finding(tmp_path: Path, first: str, second: str) -> None:
    roots = create_inbox(tmp_path / first), create_inbox(tmp_path / second)

    finding = single(find_problems(settings(*roots)))

    assert "inbox.drop0.root and inbox.drop1.root" in finding.where
    assert all(str(root) in finding.problem for root in roots)
    assert finding.remedy


def test_a_root_that_is_a_symlink_to_another_root_is_a_finding(tmp_path: Path) -> None:
    root = create_inbox(tmp_path / "a")
    (tmp_path / "b").symlink_to(root)

    assert "the same folder" in single(find_problems(settings(root, tmp_path / "b"))).problem


def test_roots_with_a_common_prefix_are_valid(tmp_path: Path) -> None:
    assert find_problems(settings(create_inbox(tmp_path / "a"), create_inbox(tmp_path / "ab"))) == []


def test_each_pair_of_three_roots_is_compared(tmp_path: Path) -> None:
    roots = create_inbox(tmp_path / "a"), create_inbox(tmp_path / "b"), create_inbox(tmp_path / "a" / "c")

    assert "inbox.drop0.root and inbox.drop2.root" in single(find_problems(settings(*roots))).where


@pytest.mark.parametrize("missing", ["", *FOLDERS])
def test_a_missing_folder_is_a_finding_with_its_remedy(tmp_path: Path, missing: str) -> None:
    root = tmp_path / "drop"
    if missing:
        (create_inbox(root) / missing).rmdir()

    finding = single(find_problems(settings(root)))

    assert finding.where == "inbox.drop0.root"
    assert f"{root / missing}: No such file or directory" in finding.problem
    assert f"mkdir -p {root}/" in finding.remedy
    assert "`inboxd up` creates it" in finding.remedy


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_symlink_in_place_of_a_folder_is_a_finding(tmp_path: Path, folder: str) -> None:
    root = create_inbox(tmp_path / "drop")
    (root / folder).rmdir()
    (root / folder).symlink_to(create_inbox(tmp_path / "other") / folder)

    assert str(root / folder) in single(find_problems(settings(root))).problem


def test_all_findings_are_raised_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        require_no_problems(settings(tmp_path / "a", tmp_path / "b", handler="no_such_module:handle"))

    assert [finding.where.split(".")[1] for finding in raised.value.findings] == ["drop0", "drop0", "drop1", "drop1"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_unwritable_folder_is_a_finding_with_its_remedy(public_root: Path, folder: str) -> None:
    (public_root / folder).chmod(0o555)

    finding = single(run_check([sys.executable, "-c", CHECK, str(public_root), "nobody"]))

    assert str(public_root / folder) in finding.where
    assert finding.problem == "Permission denied"
    assert "service's user" in finding.remedy


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_failed_check_changes_nothing(public_root: Path, folder: str) -> None:
    (public_root / folder).chmod(0o555)
    before = entries(public_root)

    run_check([sys.executable, "-c", CHECK, str(public_root), "nobody"])

    assert entries(public_root) == before


def test_an_inaccessible_folder_is_a_finding(public_root: Path) -> None:
    (public_root / "claimed").chmod(0)

    finding = single(run_check([sys.executable, "-c", CHECK, str(public_root), "nobody"]))

    assert f"{public_root / 'claimed'}: Permission denied" in finding.problem


@pytest.mark.parametrize("mounted", ["claimed", "done", "failed"])
def test_a_folder_with_another_mount_id_is_a_finding(tmp_path: Path, mounted: str) -> None:
    root = create_inbox(tmp_path)

    finding = single(find_problems(settings(root), MountsDisk(mounted)))

    assert str(root / mounted) in finding.where
    assert "another mount" in finding.problem
    assert "one volume" in finding.remedy


def test_an_inbox_folder_on_a_separate_mount_is_a_finding_for_each_other_folder(tmp_path: Path) -> None:
    findings = find_problems(settings(create_inbox(tmp_path)), MountsDisk("inbox"))

    assert [Path(finding.where.split(", ")[1]).name for finding in findings] == ["claimed", "done", "failed"]


def test_a_folder_on_another_file_system_is_a_finding(tmp_path: Path) -> None:
    root = create_inbox(tmp_path)
    script = 'mount -t tmpfs none "$1/done"; exec "$2" -c "$3" "$1"'

    finding = single(run_check([*UNSHARE_MOUNTS, script, "sh", str(root), sys.executable, CHECK]))

    assert str(root / "done") in finding.where
    assert f"({root / 'done'}, tmpfs)" in finding.problem


def test_a_bind_mounted_folder_is_a_finding(tmp_path: Path) -> None:
    root = create_inbox(tmp_path)
    script = 'mount --bind "$1/failed" "$1/failed"; exec "$2" -c "$3" "$1"'

    finding = single(run_check([*UNSHARE_MOUNTS, script, "sh", str(root), sys.executable, CHECK]))

    assert str(root / "failed") in finding.where
    assert "another mount" in finding.problem


@pytest.mark.parametrize(
    ("option", "problem", "remedy"),
    [
        ("remount,ro", "Read-only file system", "ReadWritePaths"),
        ("remount,nr_inodes=5", "No space left on device", "free space"),
    ],
)
def test_a_read_only_or_full_disk_is_a_finding_with_its_remedy(tmp_path: Path, option: str, problem: str, remedy: str) -> None:
    script = """
        mount -t tmpfs none "$1"; cd "$1"; mkdir inbox claimed done failed; mount -o "$4" "$1"
        cd "$5"; exec "$2" -c "$3" "$1"
    """

    finding = single(run_check([*UNSHARE_MOUNTS, script, "sh", str(tmp_path), sys.executable, CHECK, option, str(REPOSITORY)]))

    assert finding.problem == problem
    assert remedy in finding.remedy


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
def test_an_unusable_handler_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str, problem: str) -> None:
    for name, text in HANDLERS.items():
        (tmp_path / f"preflight_{name}").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    finding = single(find_problems(settings(create_inbox(tmp_path / "drop"), handler=handler)))

    assert handler in finding.where
    assert problem in finding.problem
    assert finding.remedy


def test_a_command_whose_program_is_there_is_no_finding(tmp_path: Path) -> None:
    root = create_inbox(tmp_path)

    assert find_problems(settings(root, command=["gzip", "--test", "{path}"])) == []
    assert find_problems(settings(root, command=["gzip"], env=["PATH=/usr/bin:/bin"])) == []
    assert find_problems(settings(root, command=["no-such-program"]), handlers=False) == []


@pytest.mark.parametrize(("program", "path"), [("no-such-program", "/bin"), ("/missing/gzip", "/bin"), ("gzip", "/missing")])
def test_a_program_that_is_missing_is_a_finding(tmp_path: Path, program: str, path: str) -> None:
    rules = settings(create_inbox(tmp_path), command=[program, "{path}"], env=[f"PATH={path}"])

    finding = single(find_problems(rules))

    assert finding == Finding(
        f"inbox.drop0.command, {program}", "is not found, or not executable", "install the program, or write its whole path"
    )


def test_a_program_that_others_can_change_is_a_finding(tmp_path: Path) -> None:
    program = tmp_path / "ocr.sh"
    program.write_text("#!/bin/sh")
    program.chmod(0o777)

    findings = find_problems(settings(create_inbox(tmp_path / "drop"), command=[str(program)]))

    assert any(finding.where == str(program) and "everybody can write to it" in finding.problem for finding in findings)


def test_a_url_needs_usable_secrets_and_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    rules = {
        "secret_file": str(tmp_path / "none"),
        "authorization_file": str(tmp_path / "none"),
        "ca_file": str(tmp_path / "ca.pem"),
    }

    findings = find_problems(settings(create_inbox(tmp_path / "drop"), url="https://books.example.org/", **rules))

    assert [finding.where for finding in findings] == [
        f"{tmp_path}/none",
        f"{tmp_path}/none",
        f"inbox.drop0.ca_file, {tmp_path}/ca.pem",
    ]
    assert all(finding.blocks for finding in findings)


@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o640, False), (0o644, True), (0o660, True)])
def test_a_secret_that_others_can_read_is_a_note(tmp_path: Path, mode: int, is_open: bool) -> None:
    secret = tmp_path / "authorization"
    secret.write_text("Bearer token")
    secret.chmod(mode)
    rules = {"url": "https://books.example.org/", "authorization_file": str(secret)}

    findings = find_problems(settings(create_inbox(tmp_path / "drop"), **rules))

    assert [(finding.where, finding.blocks) for finding in findings] == ([(str(secret), False)] if is_open else [])


def test_a_url_without_encryption_is_a_note_unless_it_is_on_this_host(tmp_path: Path) -> None:
    root = create_inbox(tmp_path)

    finding = single(find_problems(settings(root, url="http://books.example.org/")))

    assert "whoever is on the way can read and change the files" in finding.problem
    assert not finding.blocks
    assert find_problems(settings(root, url="http://localhost:8000/")) == []


def test_without_handler_checks_no_handler_is_imported(tmp_path: Path) -> None:
    root = create_inbox(tmp_path)

    assert find_problems(settings(root, handler="no_such_module_of_ours:handle"), handlers=False) == []


def test_claimed_is_created_with_access_for_the_service_only(tmp_path: Path) -> None:
    root = tmp_path / "new" / "drop"
    umask = os.umask(0o002)

    try:
        create_folders(settings(root))
    finally:
        os.umask(umask)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()}
    assert modes == {"inbox": 0o775, "claimed": 0o700, "done": 0o775, "failed": 0o775}


def test_creating_existing_folders_changes_nothing(tmp_path: Path) -> None:
    create_inbox(tmp_path)
    (tmp_path / "inbox").chmod(0o2770)
    (tmp_path / "claimed" / "a").write_text("content")
    before = entries(tmp_path)

    create_inbox(tmp_path)

    assert entries(tmp_path) == before


def test_only_missing_folders_are_created(tmp_path: Path) -> None:
    create_inbox(tmp_path)
    (tmp_path / "done").rmdir()
    (tmp_path / "inbox" / "a").write_text("content")

    create_inbox(tmp_path)

    assert (tmp_path / "done").is_dir()
    assert (tmp_path / "inbox" / "a").read_text() == "content"


def test_folders_that_can_not_be_created_are_findings_and_the_others_are_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError) as raised:
        create_folders(settings(tmp_path / "file", tmp_path / "good", tmp_path / "file" / "below"))

    assert [finding.where.split(".")[1] for finding in raised.value.findings] == ["drop0", "drop2"]
    assert all(finding.remedy for finding in raised.value.findings)
    assert (tmp_path / "good" / "failed").is_dir()
