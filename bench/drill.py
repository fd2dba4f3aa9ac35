"""A drill: thousands of files, and a fault at every turn, all from one seed; afterwards a ledger of what became of each file.

Run it with `make drill`, or with other numbers: `make drill ARGS="--files 10000 --faults 150 --seed 7"`. Exit code 1 when a
file was lost, changed, filed twice, or not filed in time.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import redis
from support.stand import Program, Stand

SETTLED_SECONDS = 90.0
"""All must be filed so long after the last fault."""

BATCH_SECONDS = 0.05


class Drill:
    """One run over one stand."""

    def __init__(self, stand: Stand, files: int, faults: int, seed: int) -> None:
        self.stand = stand
        self.random = random.Random(seed)  # noqa: S311 - a drill is to be repeatable
        self.dropped: dict[bytes, str] = {}
        self.struck: Counter[str] = Counter()
        self._files = files
        self._faults = faults
        self._stopped: list[tuple[float, int]] = []
        self._kinds: dict[str, Callable[[], None]] = {
            "kill -9 watcher": lambda: self._kill(stand.watcher),
            "kill -9 worker": lambda: self._kill(stand.worker),
            "kill -9 worker's child": self._kill_child,
            "kill -9 beat": lambda: self._kill(stand.beat),
            "kill -9 server": lambda: self._kill(stand.redis),
            "FLUSHALL": lambda: self._redis(lambda client: client.flushall()),
            "CLIENT KILL": lambda: self._redis(lambda client: client.execute_command("CLIENT", "KILL", "TYPE", "normal")),
            "SIGSTOP watcher": lambda: self._stop(stand.watcher),
            "SIGSTOP worker": lambda: self._stop(stand.worker),
            "SIGSTOP server": lambda: self._stop(stand.redis),
        }

    def run(self) -> float:
        """Drop all files while faults strike; return how many seconds after the last one everything was filed."""
        self.stand.start()
        every = max(self._files // self._faults, 1)
        while len(self.dropped) < self._files:
            before = len(self.dropped)
            self._drop(self.random.randint(1, 40))
            if len(self.dropped) // every > before // every:
                self._strike()
            self._tend()
            time.sleep(BATCH_SECONDS)
        last = time.monotonic()
        while time.monotonic() < last + SETTLED_SECONDS and not self.stand.is_at_rest():
            self._tend()
            time.sleep(BATCH_SECONDS)
        return time.monotonic() - last

    def _drop(self, count: int) -> None:
        for _ in range(min(count, self._files - len(self.dropped))):
            number = len(self.dropped)
            name = b"%s%d.bin" % (self.random.choice([b"", b"", b"sub/", b"s\xc3\xbcb/deep/"]), number)
            content = b"file %d\n" % number + self.random.randbytes(self.random.choice([10, 1000, 5000, 50_000]))
            self.stand.drop(name, content)
            self.dropped[name] = hashlib.sha256(content).hexdigest()

    def _strike(self) -> None:
        kind = self.random.choice(list(self._kinds))
        self.struck[kind] += 1
        self._kinds[kind]()

    def _tend(self) -> None:
        """Do what a service manager does: start again what has ended. And let go on what was stopped for long enough."""
        now = time.monotonic()
        for due, pid in list(self._stopped):
            if now >= due:
                self._stopped.remove((due, pid))
                _signal(pid, signal.SIGCONT)
        for program in (self.stand.redis, self.stand.watcher, self.stand.worker, self.stand.beat):
            if not program.running:
                program.spawn()

    def _kill(self, program: Program) -> None:
        if program.running:
            _signal(program.pid, signal.SIGKILL)

    def _kill_child(self) -> None:
        if self.stand.worker.running:
            pid = self.stand.worker.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
            if children:
                _signal(int(self.random.choice(children)), signal.SIGKILL)

    def _stop(self, program: Program) -> None:
        if program.running:
            _signal(program.pid, signal.SIGSTOP)
            self._stopped.append((time.monotonic() + self.random.uniform(0.5, 3.0), program.pid))

    def _redis(self, command: Callable[[redis.Redis], object]) -> None:
        try:
            command(redis.Redis(unix_socket_path=str(self.stand.socket), socket_timeout=1))
        except redis.RedisError:
            return  # it is down just now: fault enough


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has ended in between


def ledger(drill: Drill, seconds: float) -> bool:
    """Print what became of the files; return whether all is well."""
    stand = drill.stand
    done, failed = stand.tree("done"), stand.tree("failed")
    contents = Counter(done.values())
    contents.update(sha for name, sha in failed.items() if not name.endswith(b".error.txt"))
    twice_handled = {name: count for name, count in stand.duplicates().items() if count > 1}
    lost = [name for name, sha in drill.dropped.items() if not contents[sha]]
    doubled = [name for name, sha in drill.dropped.items() if contents[sha] > 1]
    renamed = [name for name, sha in drill.dropped.items() if done.get(name) != sha and name not in lost]
    for kind, count in sorted(drill.struck.items()):
        print(f"  {count:5}  {kind}")
    left = stand.names("inbox") | stand.names("claimed")
    rows = {
        "faults": sum(drill.struck.values()),
        "dropped": len(drill.dropped),
        "done": len(done),
        "lost": len(lost),
        "filed twice": len(doubled),
        "not under their own path in done/": len(renamed),
        "handled more than once": len(twice_handled),
        "left in inbox/ or claimed/": len(left),
    }
    for name, count in rows.items():
        print(f"  {count:5}  {name}")
    print(f"  {seconds:5.1f}  seconds from the last fault until all was filed")
    for name in [*lost[:5], *doubled[:5]]:
        print("        ", name)
    return not (lost or doubled or left or renamed)


def main() -> int:
    """Run a drill, and print its ledger."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    arguments = parser.parse_args()
    print(f"drill: {arguments.files} files, {arguments.faults} faults, seed {arguments.seed}")
    with tempfile.TemporaryDirectory(prefix="inboxd-drill-") as folder, Stand(Path(folder)) as stand:
        drill = Drill(stand, arguments.files, arguments.faults, arguments.seed)
        return 0 if ledger(drill, drill.run()) else 1


if __name__ == "__main__":
    sys.exit(main())
