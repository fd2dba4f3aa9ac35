"""An outage: Redis is gone for minutes while files are dropped; what the watcher holds meanwhile, and what becomes of them.

Run it with `make outage`, or with other numbers: `make outage ARGS="--seconds 60 --rate 100"`. Exit code 1 when a file was not
filed as it was dropped, or the watcher holds more than a tenth more memory at the end of the outage than before.
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
    """One run over one stand."""

    def __init__(self, stand: Stand, rate: int) -> None:
        self.stand = stand
        self.dropped: dict[bytes, str] = {}
        self._rate = rate

    def drop_for(self, seconds: float) -> None:
        """Drop files at an even pace for so long, and show now and then what the watcher holds."""
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
                print(f"  {now - begun:6.0f} s   watcher {self.held_kib():7} KiB   waiting in inbox/ {waiting:6}", flush=True)
            time.sleep(0.005)

    def held_kib(self) -> int:
        """Return the watcher's resident memory."""
        status = Path(f"/proc/{self.stand.watcher.pid}/status").read_text("ascii")
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def filed_after(self) -> float:
        """Wait until all is filed; return how many seconds that took."""
        begun = time.monotonic()
        while not self.stand.is_at_rest() and time.monotonic() < begun + FILED_SECONDS:
            time.sleep(0.1)
        return time.monotonic() - begun

    def _drop(self) -> None:
        name = b"%07d.txt" % len(self.dropped)
        content = b"file %d\n" % len(self.dropped) + bytes(2000)
        self.stand.drop(name, content)
        self.dropped[name] = hashlib.sha256(content).hexdigest()


def main() -> int:
    """Run an outage, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--rate", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="inboxd-outage-") as folder, Stand(Path(folder)) as stand:
        stand.start()
        outage = Outage(stand, arguments.rate)
        print(f"{arguments.rate} files/s, Redis is there")
        outage.drop_for(WARM_SECONDS)
        before, pids = outage.held_kib(), (stand.watcher.pid, stand.worker.pid, stand.beat.pid)
        stand.redis.kill9()
        print(f"Redis is gone for {arguments.seconds:g} s")
        outage.drop_for(arguments.seconds)
        after = outage.held_kib()
        stand.redis.start()
        took = outage.filed_after()
        good = stand.tree("done") == outage.dropped
        same = pids == tuple(p.pid if p.running else 0 for p in (stand.watcher, stand.worker, stand.beat))
    ending = "all filed as dropped" if good else "NOT all filed as dropped"
    print(f"Redis is back: {len(outage.dropped)} files, {ending} after {took:.1f} s")
    lives = "all programs live on" if same else "a program has ENDED"
    print(f"watcher: {before} KiB before, {after} KiB at the outage's end; {lives}")
    return 0 if good and same and after <= before * GROWTH_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
