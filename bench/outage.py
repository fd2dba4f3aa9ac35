"""Outage test: stop Redis for minutes while files are dropped; measure the watcher's memory and check that all are filed.

Run `make outage`, or with options: `make outage ARGS="--seconds 60 --rate 100"`. The exit code is 1 if a file was not filed
unchanged, a program exited, or the watcher's memory grew by over 10 % during the outage.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

from support.live.stand import Stand

GROWTH_MAX = 1.10
SHOWN_SECONDS = 15.0
FILED_SECONDS = 90.0
WARM_SECONDS = 20.0


class Outage:
    """One run on one stand."""

    def __init__(self, stand: Stand, rate: int) -> None:
        self.stand = stand
        self.dropped: dict[bytes, str] = {}
        self._rate = rate

    def drop_for(self, seconds: float) -> None:
        """Drop files at a constant rate, and print the watcher's memory every SHOWN_SECONDS."""
        begun = shown = time.monotonic()
        count = 0
        while (now := time.monotonic()) < begun + seconds:
            if count < (now - begun) * self._rate:
                count += 1
                self._drop()
                continue
            if now >= shown:
                shown += SHOWN_SECONDS
                waiting = len(self.stand.names("inbox"))
                print(f"  {now - begun:6.0f} s   watcher {self.resident_kib():7} KiB   in inbox/ {waiting:6} files", flush=True)
            time.sleep(0.005)

    def resident_kib(self) -> int:
        """Return the watcher's resident memory in KiB."""
        status = Path(f"/proc/{self.stand.watcher.pid}/status").read_text("ascii")
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def wait_until_filed(self) -> float:
        """Wait until all files are filed; return the seconds that took."""
        begun = time.monotonic()
        while not self.stand.has_no_pending_files() and time.monotonic() < begun + FILED_SECONDS:
            time.sleep(0.1)
        return time.monotonic() - begun

    def _drop(self) -> None:
        name = b"%07d.txt" % len(self.dropped)
        content = b"file %d\n" % len(self.dropped) + bytes(2000)
        self.stand.drop(name, content)
        self.dropped[name] = hashlib.sha256(content).hexdigest()


def main() -> int:
    """Run an outage and print the result; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--rate", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="inboxd-outage-") as folder, Stand(Path(folder)) as stand:
        stand.start()
        outage = Outage(stand, arguments.rate)
        print(f"{arguments.rate} files/s, Redis is running")
        outage.drop_for(WARM_SECONDS)
        before, pids = outage.resident_kib(), (stand.watcher.pid, stand.worker.pid, stand.beat.pid)
        stand.redis.kill9()
        print(f"Redis is stopped for {arguments.seconds:g} s")
        outage.drop_for(arguments.seconds)
        after = outage.resident_kib()
        stand.redis.start()
        seconds = outage.wait_until_filed()
        all_filed = stand.tree("done") == outage.dropped
        all_survived = pids == tuple(p.pid if p.running else 0 for p in (stand.watcher, stand.worker, stand.beat))
    ending = "all filed unchanged" if all_filed else "NOT all filed unchanged"
    print(f"Redis is running: {len(outage.dropped)} files, {ending} after {seconds:.1f} s")
    survival = "no program exited" if all_survived else "a program EXITED"
    print(f"watcher: {before} KiB before the outage, {after} KiB at the end; {survival}")
    return 0 if all_filed and all_survived and after <= before * GROWTH_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
