"""Drill: drop thousands of files while faults are injected, all from one seed; then print a ledger of the files' fates.

Run `make drill`, or with options: `make drill ARGS="--files 10000 --faults 150 --seed 7"`. The exit code is 1 if a file was
lost, changed, overwritten, filed twice, handled again without a known cause or not filed in time; the folder is then kept.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import drill_kinds
from faults import Faults
from ledger import CALLS, SETTLED_SECONDS, Dropped, Ledger
from support.live.stand import Stand
from support.mounts import FuseMount

POLL_SECONDS = 0.05
VICTIM_SECONDS = 30.0
"""How long a fault may look for a victim after all files were filed."""
BURST_MAX = 40
REUSE_SHARE = 0.03
REUSE_FILES = 2000
"""A reused name is chosen from the names of this many last files."""

PREFIXES = (b"", b"", b"sub/", b"s\xc3\xbcb/deep/")
SIZES = (10, 1000, 5000, 50_000)
KINDS = {
    # instruction to the handler: final folder, and number among 10,000 files
    "describe": ("done", 9650),
    "sleep": ("done", 50),
    "raise_twice": ("done", 150),
    "reject": ("failed", 100),
    "always_raise": ("failed", 45),
    "die": ("failed", 5),
}
CASES_SHOWN = 10
MOUNT_SHARE = 0.05
"""Share of the files that are dropped on a FUSE mount below inbox/, if there is one."""
WATCHDOG_EXIT = "exit code 70"


class Drill:
    """One run on one stand."""

    def __init__(self, stand: Stand, files: int, faults: int, seed: int, every: float, mount: FuseMount | None) -> None:
        self.stand = stand
        self.faults = Faults(stand, seed, faults, every, mount)
        self._mount = mount
        self.dropped: list[Dropped] = []
        self._random = random.Random(f"{seed} files")  # noqa: S311 - a drill is repeatable
        self._files = files
        self._rate = files / (faults * every)

    def run(self) -> float:
        """Drop all files while faults are injected; return the seconds from the last fault until all files were filed."""
        self.stand.start()
        begun = idle_since = time.monotonic()
        while len(self.dropped) < self._files or not self.faults.is_complete:
            now = time.monotonic() - begun
            if len(self.dropped) < now * self._rate:
                self._drop(self._random.randint(1, BURST_MAX))
            self.faults.advance(now)
            if len(self.dropped) < self._files or not self.faults.is_late or not self.stand.has_no_pending_files():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > VICTIM_SECONDS:
                self.faults.skip_next()
            time.sleep(POLL_SECONDS)
        last = time.monotonic()
        while time.monotonic() < last + SETTLED_SECONDS and not self.stand.has_no_pending_files():
            self.faults.advance(time.monotonic() - begun)
            time.sleep(POLL_SECONDS)
        return time.monotonic() - last

    def _drop(self, count: int) -> None:
        for _ in range(min(count, self._files - len(self.dropped))):
            number = len(self.dropped)
            (kind,) = self._random.choices(list(KINDS), [share for _, share in KINDS.values()])
            instruction = f"{kind} {self._random.uniform(0.2, 2.0):.2f}" if kind == "sleep" else f"{kind} {number}"
            content = f"{instruction}\n{number}\n".encode() + self._random.randbytes(self._random.choice(SIZES))
            name = self._random.choice(PREFIXES) + b"%d.bin" % number
            if self._mount and self._random.random() < MOUNT_SHARE:
                name = b"%s/%d.bin" % (os.fsencode(self._mount.point.name), number)
            age, is_reuse = self._random.randrange(min(number, REUSE_FILES) or 1), self._random.random() < REUSE_SHARE
            if is_reuse and number and self._is_filed(self.dropped[-1 - age].name, KINDS[kind][0]):
                name = self.dropped[-1 - age].name
            self._write(name, content)
            sha256 = hashlib.sha256(content).hexdigest()
            self.dropped.append(Dropped(sha256, name, kind, KINDS[kind][0], time.time()))

    def _is_filed(self, name: bytes, end: str) -> bool:
        """Return whether a file with the name is in the final folder and none in inbox/; False on the mount, which may hang."""
        if self._mount and name.startswith(os.fsencode(self._mount.point.name) + b"/"):
            return False
        return self.stand.path(end, name).exists() and not self.stand.path("inbox", name).exists()

    def _write(self, name: bytes, content: bytes) -> None:
        path = self.stand.path("inbox", name)
        if self._mount and path.is_relative_to(self._mount.point):  # behind the mount, which may hang
            path = self._mount.source / path.relative_to(self._mount.point)
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError), path.open("xb") as file:  # the watcher may prune the empty folder
                file.write(content)
                return


def report(ledger: Ledger, drill: Drill, settled: float, *, markdown: bool) -> bool:
    """Print the ledger and the first cases of each error; return whether the drill succeeded."""
    for kind, count in sorted(Counter(fault.kind for fault in ledger.faults).items()):
        print(f"  {count:5}  {kind}")
    for kind, count in sorted(Counter(drill.faults.without_victim).items()):
        print(f"  {count:5}  {kind}: not injected, since all files were filed before it")
    rows = list(ledger.rows(settled))
    if markdown:
        print("| | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |" if markdown else f"  {value!s:>5}  {name}")
    for program, count in Counter(drill.faults.unexpected_exits).items():
        print(f"  unexpected exit: {program}, {count} times")
    for name, cases in ledger.wrong.items():
        for case in cases[:CASES_SHOWN]:
            print(f"  {name}: {case}")
    watchdog_expired = any(WATCHDOG_EXIT in text for text in drill.faults.unexpected_exits)  # no fault causes that
    return not any(ledger.wrong.values()) and settled <= SETTLED_SECONDS and not watchdog_expired


def save(folder: Path, drill: Drill) -> None:
    """Save the dropped files and injected faults next to the logs, for diagnosis."""
    dropped = [{**asdict(file), "name": os.fsdecode(file.name)} for file in drill.dropped]
    faults = [{**asdict(fault), "killed": sorted(fault.killed)} for fault in drill.faults.injected]
    (folder / "drill.json").write_text(json.dumps({"dropped": dropped, "faults": faults}, indent=0), "utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a drill, and print its ledger."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between faults, on average")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--mount", action="store_true", help="also hang a FUSE mount and set clocks; needs bindfs and cc")
    parser.add_argument("--markdown", action="store_true", help="print the ledger as a Markdown table")
    parser.add_argument("--handlers", choices=["function", "all"], default="function", help="all: see drill_kinds.py")
    parser.add_argument("--keep", type=Path, help="create this folder for the drill, and keep it")
    arguments = parser.parse_args(argv)
    if arguments.handlers == "all":
        return drill_kinds.run(arguments.files, arguments.faults, arguments.seed, arguments.every)
    print(f"drill: {arguments.files} files, {arguments.faults} faults, seed {arguments.seed}", flush=True)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="inboxd-drill-"))
    folder.mkdir(parents=True, exist_ok=not arguments.keep)
    rules = {"handler": "bench.drill_handler:handle", "unsure_seconds": 1.0, "changes_max": 100}
    with contextlib.ExitStack() as stack:
        stand = stack.enter_context(Stand(folder, {"drop": rules}))
        mount = FuseMount(folder / "behind the mount", stand.path("inbox", b"mount")) if arguments.mount else None
        if mount:
            stack.callback(mount.close)
        drill = Drill(stand, arguments.files, arguments.faults, arguments.seed, arguments.every, mount)
        settled = drill.run()
        if mount:
            mount.answer()
    save(folder, drill)
    ledger = Ledger(stand, drill.dropped, drill.faults.injected, folder / CALLS)  # after all programs have exited
    succeeded = report(ledger, drill, settled, markdown=arguments.markdown)
    if succeeded and not arguments.keep:
        shutil.rmtree(folder)
    else:
        print(f"  kept for inspection: {folder}")
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
