"""Check that `inboxd audit` accounts for thousands of files, some of which fail, while workers are killed and Redis is flushed.

Run `make audit`, or with options: `make audit ARGS="--files 20000 --failures 200"`. At the end a file is deleted from claimed/:
the audit must name the file before the worker logs file_missing and after. The exit code is 1 if a figure is wrong.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.live.stand import Stand

SETTLED_SECONDS = 120.0
BURST = 50
KILLS = (0.25, 0.5, 0.75)
"""The shares of dropped files after which the worker is killed."""
FLUSH = 0.6
VICTIM = b"sub/deleted by hand.bin"


class Run:
    """One run on one stand."""

    def __init__(self, stand: Stand, files: int, failures: int, seed: int) -> None:
        self.stand = stand
        self.wrong: list[str] = []
        self._files = files
        self._random = random.Random(seed)  # noqa: S311 - a run is repeatable
        self._failing = set(self._random.sample(range(files), failures))

    def drop_all(self) -> None:
        """Drop all files in bursts, meanwhile kill the worker and flush Redis."""
        kills, is_flushed = list(KILLS), False
        for number in range(self._files):
            instruction = "always_raise" if number in self._failing else "describe"
            name = b"%d.bin" % number if number % 3 else b"sub/%d.bin" % (number % 500)  # some names repeat
            while self.stand.path("inbox", name).exists():
                time.sleep(0.01)
            self._write(name, f"{instruction} {number}\n".encode() + self._random.randbytes(200))
            share = number / self._files
            if kills and share >= kills[0]:
                del kills[0]
                self.stand.worker.kill9()
                self.stand.worker.start()
            if not is_flushed and share >= FLUSH:
                is_flushed = bool(self.stand.client.flushall())
            if number % BURST == 0:
                time.sleep(0.2)

    def _write(self, name: bytes, content: bytes) -> None:
        while True:
            try:
                self.stand.drop(name, content)
            except FileNotFoundError:  # the watcher has just pruned the sub-folder
                continue
            return

    def settle(self) -> float:
        """Wait until all files are filed; return the seconds that took."""
        begun = time.monotonic()
        while not self.stand.has_no_pending_files() and time.monotonic() < begun + SETTLED_SECONDS:
            time.sleep(0.1)
        return time.monotonic() - begun

    def audit(self) -> tuple[int, dict[str, Any], float]:
        """Run the command on the logs; return its exit code, its JSON output and the seconds that it took."""
        logs = [str(program.log) for program in (self.stand.watcher, self.stand.worker)]
        argv = [sys.executable, "-m", "inboxd", "audit", "--json", *logs]
        begun = time.monotonic()
        process = subprocess.run(argv, env=self.stand.environment(), capture_output=True, check=False)  # noqa: S603
        if process.returncode > 1:
            raise SystemExit(process.stderr.decode())
        return process.returncode, json.loads(process.stdout), time.monotonic() - begun

    def expect(self, name: str, actual: object, expected: object) -> None:
        """Print a figure, and record its name if the value is not the expected one."""
        print(f"  {actual!s:>8}  {name}" + ("" if actual == expected else f"  WRONG: {expected} expected"), flush=True)
        if actual != expected:
            self.wrong.append(name)

    def check_all_accounted(self) -> None:
        """Audit when every file is accounted for."""
        code, report, seconds = self.audit()
        done, failed = self._files - len(self._failing), len(self._failing)
        expected = {"arrived": self._files, "done": done, "failed": failed, "in_flight": 0, "unaccounted": []}
        for key, value in expected.items():
            self.expect(key, report[key], value)
        self.expect("exit code", code, 0)
        print(f"  {seconds:8.2f}  seconds")

    def check_deletion(self) -> None:
        """Delete a file from claimed/ while no worker runs; audit then, and again once the worker has logged file_missing."""
        self.stand.worker.kill9()
        self.stand.drop(VICTIM, b"describe me")
        deadline = time.monotonic() + SETTLED_SECONDS
        while not (claimed := [name for name in self.stand.names("claimed") if name.endswith(VICTIM)]):
            assert time.monotonic() < deadline, f"{VICTIM!r} was not claimed within {SETTLED_SECONDS} s"
            time.sleep(0.1)
        self.stand.path("claimed", claimed[0]).unlink()
        self._expect_victim("deleted from claimed/")
        self.stand.worker.start()
        while not self.stand.log_events("file_missing", self.stand.worker):
            assert time.monotonic() < deadline, "the worker has not logged file_missing"
            time.sleep(0.1)
        self._expect_victim("reported missing by the worker")

    def _expect_victim(self, state: str) -> None:
        code, report, _ = self.audit()
        self.expect(f"unaccounted: {state}", [entry["file"] for entry in report["unaccounted"]], [VICTIM.decode()])
        self.expect("arrived", report["arrived"], self._files + 1)
        self.expect("exit code", code, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check and print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--failures", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    print(f"audit: {arguments.files} files, {arguments.failures} of them fail, {len(KILLS)} kills of the worker, one FLUSHALL")
    with (
        tempfile.TemporaryDirectory(prefix="inboxd-audit-") as folder,
        Stand(Path(folder), {"drop": {"retries": 1}}) as stand,
    ):
        run = Run(stand.start(), arguments.files, arguments.failures, arguments.seed)
        run.drop_all()
        print(f"  {run.settle():8.1f}  seconds until all files were filed")
        run.check_all_accounted()
        run.check_deletion()
    return 1 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
