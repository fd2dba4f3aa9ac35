"""Mutation test: plant one bug after another in a copy of the tree, and run the tests that must detect it.

Run `make mutants`, or only some: `make mutants ARGS="rename lease"`. The exit code is 1 if a bug survives its tests, or the
tests fail without one. A mutant whose old text is not in its file exactly once is an error; update the mutant.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PARTS = ("inboxd", "watcher", "tasks", "deploy", "tests", "pyproject.toml", "settings.toml")
TIMEOUT_SECONDS = 120.0

DYING = "tests/crash/test_dying_at_every_operation.py"
ORDER = "tests/unit/tasks/test_order_of_steps.py"
POWER = "tests/crash/test_power_cuts.py"


@dataclass(frozen=True)
class Mutant:
    """A bug: in ``file``, ``old`` is replaced with ``new``; ``tests`` must detect the change."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "a move copies and unlinks instead of renaming",
        "inboxd/fs/rename.py",
        "        disk.rename(src_at, src, dst_at, dst)\n",
        "        old, new = disk.open_file(src_at, src), disk.create(dst_at, dst, 0o600)\n"
        "        disk.write(new, disk.read(old, 1 << 30))\n"
        "        disk.close(old)\n"
        "        disk.close(new)\n"
        "        disk.unlink(src_at, src)\n",
        (DYING,),
    ),
    Mutant(
        "a rename links and unlinks",
        "inboxd/fs/syscalls.py",
        "        if _renameat2(src_at, src, dst_at, dst, _RENAME_NOREPLACE) == 0:\n",
        "        os.link(src, dst, src_dir_fd=src_at, dst_dir_fd=dst_at, follow_symlinks=False)\n"
        "        os.unlink(src, dir_fd=src_at)\n"
        "        if True:\n",
        ("tests/unit/fs/test_syscalls.py", "tests/unit/fs/test_rename.py"),
    ),
    Mutant(
        "a rename overwrites",
        "inboxd/fs/syscalls.py",
        "_RENAME_NOREPLACE = 1\n",
        "_RENAME_NOREPLACE = 0\n",
        ("tests/unit/fs/test_syscalls.py",),
    ),
    Mutant(
        "on file systems without RENAME_NOREPLACE, names are not reserved",
        "inboxd/fs/reserve.py",
        "    _reserve(disk, stat, dst_at, dst)\n",
        "",
        ("tests/unit/fs/test_rename.py",),
    ),
    Mutant(
        "a claim gives a file another name",
        "inboxd/fs/rename.py",
        "rename_over(src_at, src, dst_at, dst)\n    except OSError as error:\n        if error.errno != errno.EXDEV:\n",
        "rename(src_at, src, dst_at, b'.' + dst)\n    except OSError as error:\n        if error.errno != errno.EXDEV:\n",
        (DYING,),
    ),
    Mutant(
        "a parcel is sent before it is claimed",
        "inboxd/intake/intake.py",
        "        result = self._claim(folders, parcel, [file.path for file in batch], by_copy)\n",
        "        from inboxd.messaging.payload import FilePart\n"
        "        early = tuple(FilePart(file.path, 'text/plain', file.size, {}, None) for file in batch)\n"
        "        whole = Parcel(parcel, self._inbox.name, self._deps.host, bytes(self._inbox.root), early)\n"
        "        self._deps.send(whole, self._inbox)\n"
        "        result = self._claim(folders, parcel, [file.path for file in batch], by_copy)\n",
        (ORDER,),
    ),
    Mutant(
        "a copy is not synced before its source is removed",
        "inboxd/fs/copy.py",
        "            disk.fsync(target)\n",
        "",
        (POWER,),
    ),
    Mutant(
        "a copy's folder is not synced before its source is removed",
        "inboxd/fs/copy.py",
        "            disk.fsync(dst_at)\n",
        "",
        (POWER,),
    ),
    Mutant(
        "a source is removed before its copy is linked",
        "inboxd/fs/copy.py",
        "            try:\n                disk.link(dst_at, temp, dst_at, dst)\n",
        "            disk.unlink(src_at, src)\n            try:\n                disk.link(dst_at, temp, dst_at, dst)\n",
        (DYING,),
    ),
    Mutant(
        "a copy is not compared with its source",
        "inboxd/fs/copy.py",
        "        if source_digest.digest() != copy_digest.digest():\n",
        "        if False:\n",
        ("tests/unit/fs/test_rename.py",),
    ),
    Mutant(
        "a lease is never renewed",
        "tasks/processing/lease_renewer.py",
        "            for parcel, token in renewed:\n",
        "            for parcel, token in renewed[:0]:\n",
        ("tests/unit/tasks/processing/test_lease_renewer.py",),
    ),
    Mutant(
        "a second worker starts a parcel that another is working on",
        "inboxd/broker/lua.py",
        "if state == 'running' and left > 0 and left <= tonumber(ARGV[3]) and token ~= ARGV[4] then",
        "if false then",
        ("tests/unit/broker/test_leases.py",),
    ),
    Mutant(
        "a lease is taken over without a check for changes",
        "inboxd/broker/lua.py",
        "if (state or '') ~= ARGV[1] or (expires or '') ~= ARGV[2] or (token or '') ~= ARGV[3] then",
        "if false then",
        ("tests/unit/broker/test_leases.py",),
    ),
    Mutant(
        "a duplicate message of a filed parcel is worked on again",
        "inboxd/broker/lua.py",
        "if state == 'finished' or state == 'filed' then",
        "if state == 'finished' then",
        ("tests/unit/broker/test_leases.py",),
    ),
    Mutant(
        "an error note is written after its file is moved",
        "inboxd/spool/filing.py",
        "        if not is_taken and not _place_note(disk, dst_at, candidate, note, signature):\n            continue\n",
        "",
        (DYING,),
    ),
    Mutant(
        "messages are acknowledged before their work",
        "inboxd/messaging/celery_app.py",
        '"task_acks_late": True',
        '"task_acks_late": False',
        (ORDER,),
    ),
    Mutant(
        "the sweep reads no stored outcomes",
        "tasks/sweeps/repair.py",
        "        return read_results(self._context.app, parcels)\n",
        "        return dict.fromkeys(parcels, {'status': 'PENDING', 'result': None})\n",
        ("tests/unit/tasks/sweeps/test_repair.py",),
    ),
    Mutant(
        "the sweep does not read the queues",
        "tasks/sweeps/repair.py",
        "        queued = self._find_queued(parcels)\n",
        "        queued = frozenset()\n",
        ("tests/unit/tasks/sweeps/test_repair.py",),
    ),
    Mutant(
        "the scan accepts files that are open for writing",
        "inboxd/intake/scan.py",
        "            return disk.check_writers(file)\n",
        "            return WriterCheck.FREE\n",
        ("tests/unit/intake/test_scan_busy.py",),
    ),
    Mutant(
        "a claim keeps files that were opened for writing meanwhile",
        "inboxd/intake/inspection.py",
        "    if writers is WriterCheck.BUSY:\n",
        "    if False:\n",
        ("tests/unit/intake/test_packing.py",),
    ),
    Mutant(
        "a claim keeps files that were written to after the scan",
        "inboxd/intake/inspection.py",
        "    return file_version(stat) != expected or stat.links > 1\n",
        "    return False\n",
        ("tests/unit/intake/test_packing.py",),
    ),
    Mutant(
        "a parcel that killed its worker is not split",
        "inboxd/broker/recovery.py",
        "    if files > 1:\n",
        "    if False:\n",
        ("tests/unit/broker/test_recovery.py", "tests/unit/tasks/sweeps/test_repair.py"),
    ),
    Mutant(
        "crashes of workers are not counted",
        "inboxd/broker/lua.py",
        "return 1 + redis.call('HINCRBY', KEYS[1], 'crashes', ARGV[6])",
        "return 1",
        ("tests/unit/broker/test_leases.py",),
    ),
    Mutant(
        "parcels that an unreachable broker did not accept are forgotten",
        "inboxd/intake/intake.py",
        "            self._unsent.append(parcel)\n",
        "",
        ("tests/unit/intake/test_intake_errors.py",),
    ),
    Mutant(
        "a link is followed when it is opened",
        "inboxd/fs/syscalls.py",
        "_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW",
        "_READ_FLAGS = os.O_RDONLY",
        ("tests/unit/fs/test_syscalls.py",),
    ),
)


def plant(mutant: Mutant, tree: Path) -> str:
    """Replace the text in the copy, and return the file's original content. Exits unless the text occurs exactly once."""
    path = tree / mutant.file
    text = path.read_text("utf-8")
    if text.count(mutant.old) != 1:
        sys.exit(f"{mutant.name}: {mutant.file} has the old text {text.count(mutant.old)} times, not once:\n{mutant.old}")
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    return text


def first_failure(tree: Path, tests: Iterable[str]) -> str:
    """Run tests in the copy; return the first that fails, or "" if all pass."""
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-rfE", *tests]
    # a .pyc cache would hide a changed file of the same size and second
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    try:
        run = subprocess.run(  # noqa: S603 - our own tests
            argv, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"(timeout after {TIMEOUT_SECONDS:.0f} s)"
    if run.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", run.stdout, re.MULTILINE)
    if run.returncode != 1 or not found:
        sys.exit(f"{' '.join(argv)} exited with {run.returncode}:\n{run.stdout}{run.stderr}")
    return found[1]


def copy_tree(tree: Path) -> None:
    """Copy the files that the tests need."""
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, tree / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / part)


def main(argv: Sequence[str] | None = None) -> int:
    """Plant all bugs, and print a table of the tests that detect them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="run only mutants with one of these words in their names")
    words = parser.parse_args(argv).words
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    begun, survived = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="inboxd-mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        for tests in sorted({mutant.tests for mutant in chosen}):
            if failure := first_failure(tree, tests):
                sys.exit(f"a test fails without any bug planted: {failure}")
        print("| bug | file | detected by |\n|---|---|---|", flush=True)
        for mutant in chosen:
            original = plant(mutant, tree)
            detected_by = first_failure(tree, mutant.tests)
            (tree / mutant.file).write_text(original, "utf-8")
            survived += not detected_by
            print(f"| {mutant.name} | {mutant.file} | {detected_by or '**nothing**'} |", flush=True)
    print(f"\n{len(chosen)} bugs planted, {survived} survived, in {time.monotonic() - begun:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
