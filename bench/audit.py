"""Does `inboxd audit` account for every file? Thousands are dropped, some fail, workers are killed, Redis forgets all it knew.

Run it with `make audit`, or with other numbers: `make audit ARGS="--files 20000 --failures 200"`. Afterwards one file is
deleted from claimed/ by hand: the audit must name it, before the workers notice and after. Exit code 1 if a figure is wrong.
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
"""When a worker is killed: after so much of the files."""
FLUSH = 0.6
VICTIM = b"sub/deleted by hand.bin"


class Run:
    """One run over one stand."""

    def __init__(self, stand: Stand, files: int, failures: int, seed: int) -> None:
        self.stand = stand
        self.wrong: list[str] = []
        self._files = files
        self._dice = random.Random(seed)  # noqa: S311 - a run is to be repeatable
        self._failing = set(self._dice.sample(range(files), failures))

    def drop_all(self) -> None:
        """Drop all files in bursts, and strike in between."""
        kills, flushed = list(KILLS), False
        for number in range(self._files):
            word = "always_raise" if number in self._failing else "describe"
            name = b"%d.bin" % number if number % 3 else b"sub/%d.bin" % (number % 500)  # names come again
            while self.stand.path("inbox", name).exists():
                time.sleep(0.01)
            self._write(name, f"{word} {number}\n".encode() + self._dice.randbytes(200))
            share = number / self._files
            if kills and share >= kills[0]:
                del kills[0]
                self.stand.worker.kill9()
                self.stand.worker.start()
            if not flushed and share >= FLUSH:
                flushed = bool(self.stand.client.flushall())
            if number % BURST == 0:
                time.sleep(0.2)

    def _write(self, name: bytes, content: bytes) -> None:
        while True:
            try:
                self.stand.drop(name, content)
            except FileNotFoundError:  # its sub-folder was tidied away just now
                continue
            return

    def settle(self) -> float:
        """Wait until everything is filed; return the seconds."""
        begun = time.monotonic()
        while not self.stand.is_at_rest() and time.monotonic() < begun + SETTLED_SECONDS:
            time.sleep(0.1)
        return time.monotonic() - begun

    def audit(self) -> tuple[int, dict[str, Any], float]:
        """Run the command on the logs; return its exit code, what it says, and how long it took."""
        logs = [str(program.log) for program in (self.stand.watcher, self.stand.worker)]
        argv = [sys.executable, "-m", "inboxd", "audit", "--json", *logs]
        begun = time.monotonic()
        ran = subprocess.run(argv, env=self.stand.environment(), capture_output=True, check=False)  # noqa: S603
        if ran.returncode > 1:
            raise SystemExit(ran.stderr.decode())
        return ran.returncode, json.loads(ran.stdout), time.monotonic() - begun

    def expect(self, what: str, said: object, wanted: object) -> None:
        """Print a figure, and remember it if it is wrong."""
        print(f"  {said!s:>8}  {what}" + ("" if said == wanted else f"  WRONG: {wanted} expected"), flush=True)
        if said != wanted:
            self.wrong.append(what)

    def account(self) -> None:
        """Audit while nothing is wrong."""
        code, said, seconds = self.audit()
        failures = len(self._failing)
        wanted = {"arrived": self._files, "done": self._files - failures, "failed": failures, "in_flight": 0, "unaccounted": []}
        for key, value in wanted.items():
            self.expect(key, said[key], value)
        self.expect("exit code", code, 0)
        print(f"  {seconds:8.2f}  seconds")

    def account_for_a_deletion(self) -> None:
        """Delete a file from claimed/ while no worker is there; audit then, and when the workers have found nothing."""
        self.stand.worker.kill9()
        self.stand.drop(VICTIM, b"describe me")
        deadline = time.monotonic() + SETTLED_SECONDS
        while not (found := [name for name in self.stand.names("claimed") if name.endswith(VICTIM)]):
            assert time.monotonic() < deadline, "it is not claimed"
            time.sleep(0.1)
        self.stand.path("claimed", found[0]).unlink()
        self._expect_victim("deleted from claimed/")
        self.stand.worker.start()
        while not self.stand.log_events("file_missing", self.stand.worker):
            assert time.monotonic() < deadline, "no word of it"
            time.sleep(0.1)
        self._expect_victim("and not found by the workers")

    def _expect_victim(self, when: str) -> None:
        code, said, _ = self.audit()
        self.expect(f"named, {when}", [entry["file"] for entry in said["unaccounted"]], [VICTIM.decode()])
        self.expect("arrived", said["arrived"], self._files + 1)
        self.expect("exit code", code, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, and print the figures."""
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
        print(f"  {run.settle():8.1f}  seconds until all was filed")
        run.account()
        run.account_for_a_deletion()
    return 1 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
