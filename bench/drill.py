"""A drill: thousands of files, and a fault at every turn, all from one seed; afterwards a ledger of what became of each file.

Run it with `make drill`, or with other numbers: `make drill ARGS="--files 10000 --faults 150 --seed 7"`. Exit code 1 when a
file was lost, changed, overwritten, filed twice, handled again without a cause, or not filed in time; the folder is then kept.
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

from faults import Faults
from ledger import CALLS, SETTLED_SECONDS, Dropped, Ledger
from support.live.stand import Stand

LOOK_SECONDS = 0.05
BURST_MAX = 40
SHARE_OF_TAKEN_NAMES = 0.03
EARLIER = 2000
"""A taken name is one of the last so many."""

PREFIXES = (b"", b"", b"sub/", b"s\xc3\xbcb/deep/")
SIZES = (10, 1000, 5000, 50_000)
KINDS = {
    # what the file says to its handler: where it must end, and its share
    "describe": ("done", 9650),
    "sleep": ("done", 50),
    "raise_twice": ("done", 150),
    "reject": ("failed", 100),
    "always_raise": ("failed", 45),
    "die": ("failed", 5),
}
CASES_SHOWN = 10
DEAF = "exit code 70"


class Drill:
    """One run over one stand."""

    def __init__(self, stand: Stand, files: int, faults: int, seed: int, every: float) -> None:
        self.stand = stand
        self.faults = Faults(stand, seed, faults, every)
        self.dropped: list[Dropped] = []
        self._dice = random.Random(f"{seed} files")  # noqa: S311 - a drill is to be repeatable
        self._files = files
        self._rate = files / (faults * every)

    def run(self) -> float:
        """Drop all files while faults strike; return how many seconds after the last fault everything was filed."""
        self.stand.start()
        begun = time.monotonic()
        while len(self.dropped) < self._files or not self.faults.all_struck:
            now = time.monotonic() - begun
            if len(self.dropped) < now * self._rate:
                self._drop(self._dice.randint(1, BURST_MAX))
            self.faults.tend(now)
            time.sleep(LOOK_SECONDS)
        last = time.monotonic()
        while time.monotonic() < last + SETTLED_SECONDS and not self.stand.is_at_rest():
            self.faults.tend(time.monotonic() - begun)
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - last

    def _drop(self, count: int) -> None:
        for _ in range(min(count, self._files - len(self.dropped))):
            number = len(self.dropped)
            (kind,) = self._dice.choices(list(KINDS), [share for _, share in KINDS.values()])
            words = f"{kind} {self._dice.uniform(0.2, 2.0):.2f}" if kind == "sleep" else f"{kind} {number}"
            content = f"{words}\n{number}\n".encode() + self._dice.randbytes(self._dice.choice(SIZES))
            name = self._dice.choice(PREFIXES) + b"%d.bin" % number
            earlier, wants_taken = self._dice.randrange(min(number, EARLIER) or 1), self._dice.random() < SHARE_OF_TAKEN_NAMES
            if wants_taken and number and self._is_filed(self.dropped[-1 - earlier].name, KINDS[kind][0]):
                name = self.dropped[-1 - earlier].name
            self._write(name, content)
            sha256 = hashlib.sha256(content).hexdigest()
            self.dropped.append(Dropped(sha256, name, kind, KINDS[kind][0], time.time()))

    def _is_filed(self, name: bytes, end: str) -> bool:
        """Tell whether the name is taken where the file will end, and free where it is dropped."""
        return self.stand.path(end, name).exists() and not self.stand.path("inbox", name).exists()

    def _write(self, name: bytes, content: bytes) -> None:
        path = self.stand.path("inbox", name)
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError), path.open("xb") as file:  # an empty folder may be tidied away just now
                file.write(content)
                return


def report(ledger: Ledger, drill: Drill, settled: float, *, markdown: bool) -> bool:
    """Print the ledger, and the cases behind its worst rows; return whether all is well."""
    for kind, count in sorted(Counter(fault.kind for fault in ledger.faults).items()):
        print(f"  {count:5}  {kind}")
    rows = list(ledger.rows(settled))
    if markdown:
        print("| | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |" if markdown else f"  {value!s:>5}  {name}")
    for text, count in Counter(drill.faults.ended_unasked).items():
        print(f"  ended without being asked to: {text}, {count} times")
    for name, cases in ledger.wrong.items():
        for case in cases[:CASES_SHOWN]:
            print(f"  {name}: {case}")
    deaf = any(DEAF in text for text in drill.faults.ended_unasked)  # no fault here makes a worker deaf
    return not any(ledger.wrong.values()) and settled <= SETTLED_SECONDS and not deaf


def write_down(folder: Path, drill: Drill) -> None:
    """Leave beside the logs what was dropped and what has struck, for whoever looks for a cause."""
    dropped = [{**asdict(file), "name": os.fsdecode(file.name)} for file in drill.dropped]
    faults = [{**asdict(fault), "killed": sorted(fault.killed)} for fault in drill.faults.struck]
    (folder / "drill.json").write_text(json.dumps({"dropped": dropped, "faults": faults}, indent=0), "utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a drill, and print its ledger."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between faults, on average")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--markdown", action="store_true", help="print the ledger as a table for a README")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and keep it")
    arguments = parser.parse_args(argv)
    print(f"drill: {arguments.files} files, {arguments.faults} faults, seed {arguments.seed}", flush=True)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="inboxd-drill-"))
    folder.mkdir(parents=True, exist_ok=not arguments.keep)
    with Stand(folder, {"drop": {"handler": "bench.drill_handler:obey"}}) as stand:
        drill = Drill(stand, arguments.files, arguments.faults, arguments.seed, arguments.every)
        settled = drill.run()
    write_down(folder, drill)
    ledger = Ledger(stand, drill.dropped, drill.faults.struck, folder / CALLS)  # now that nothing moves any more
    well = report(ledger, drill, settled, markdown=arguments.markdown)
    if well and not arguments.keep:
        shutil.rmtree(folder)
    else:
        print(f"  kept for a look: {folder}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
