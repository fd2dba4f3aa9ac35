"""The faults of a drill, each recorded: programs are killed and stopped, Redis is flushed, filled and disconnected.

With a mount and a C compiler also: a mount hangs, and the clock jumps.
"""

import contextlib
import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.clocks import build_clock_library
from support.live.stand import Program, Stand
from support.mounts import FuseMount

STOPPED_SECONDS = (0.5, 3.0)
FULL_SECONDS = 2.0
TIMEOUT_SECONDS = 0.2
CLOCK_SECONDS = 5.0
HUNG_SECONDS = (2.0, 20.0)


@dataclass(frozen=True)
class Fault:
    """An injected fault: its start and end (unix seconds), and the worker processes that it killed."""

    kind: str
    at: float
    until: float
    killed: frozenset[int] = frozenset()
    changed: tuple[str, str] | None = None
    """The SHA-256 of a claimed file before and after it was written to."""


class Faults:
    """The planned and injected faults of one stand. A fault without a victim is retried until one is found."""

    def __init__(self, stand: Stand, seed: int, count: int, every: float, mount: FuseMount | None = None) -> None:
        """Plan ``count`` faults, ``every`` seconds apart on average; with a FUSE ``mount``, it and clocks fail, too."""
        plan_random = random.Random(f"{seed} faults")  # noqa: S311 - a drill is repeatable
        self.injected: list[Fault] = []
        self.unexpected_exits: list[str] = []
        self.without_victim: list[str] = []
        self._stand = stand
        self._mount = mount
        self._clock_library = build_clock_library(stand.folder) if mount else None
        self._random = random.Random(f"{seed} victims")  # noqa: S311
        self._terminated: set[int] = set()
        self._pids: dict[str, int] = {}
        self._undo: list[tuple[float, Callable[[], bool]]] = []
        self._kinds = self._all_kinds()
        kinds, at = list(self._kinds), 0.0
        self._planned: list[tuple[float, str]] = []
        for number in range(count):
            at += plan_random.uniform(0.1, 2 * every - 0.1)
            # each round has every kind once, in random order
            if number % len(kinds) == 0:
                plan_random.shuffle(kinds)
            self._planned.append((at, kinds[number % len(kinds)]))

    @property
    def kinds(self) -> list[str]:
        """The names of all kinds."""
        return list(self._kinds)

    @property
    def is_late(self) -> bool:
        """Whether a fault is planned, and nothing has to be undone before it."""
        return bool(self._planned) and not self._undo

    @property
    def is_complete(self) -> bool:
        """Whether all faults were injected and temporary ones undone."""
        return not self._planned and not self._undo

    def skip_next(self) -> None:
        """Give up the next planned fault: all files are filed, so that it will find no victim."""
        self.without_victim.append(self._planned.pop(0)[1])

    def advance(self, now: float) -> None:
        """Inject the faults due ``now`` seconds after the start, undo those that are over, and restart exited programs."""
        clock = time.monotonic()
        self._undo = [(due, undo) for due, undo in self._undo if clock < due or not undo()]
        while self._planned and now >= self._planned[0][0] and (fault := self._kinds[self._planned[0][1]]()):
            self.injected.append(fault)
            del self._planned[0]
        for program in (self._stand.redis, self._stand.watcher, self._stand.worker, self._stand.beat):
            if not program.running:
                if self._pids.get(program.name) not in self._terminated:
                    self.unexpected_exits.append(f"{program.name}, exit code {program.code}")
                program.spawn()
            self._pids[program.name] = program.pid

    def _all_kinds(self) -> dict[str, Callable[[], Fault | None]]:
        stand = self._stand
        return {
            "kill -9 watcher": lambda: self._kill("kill -9 watcher", stand.watcher),
            "kill -9 worker": lambda: self._kill("kill -9 worker", stand.worker),
            "kill -9 worker's child": self._kill_child,
            "kill -9 worker and children": self._kill_group,
            "kill -9 beat": lambda: self._kill("kill -9 beat", stand.beat),
            "kill -9 server": lambda: self._kill("kill -9 server", stand.redis),
            "SIGTERM watcher": lambda: self._kill("SIGTERM watcher", stand.watcher, signal.SIGTERM),
            "SIGTERM worker": lambda: self._kill("SIGTERM worker", stand.worker, signal.SIGTERM),
            "SIGSTOP watcher": lambda: self._stop("SIGSTOP watcher", stand.watcher),
            "SIGSTOP worker": lambda: self._stop("SIGSTOP worker", stand.worker),
            "SIGSTOP worker's child": self._stop_child,
            "SIGSTOP server": lambda: self._stop("SIGSTOP server", stand.redis),
            "FLUSHALL": lambda: self._redis("FLUSHALL", "FLUSHALL"),
            "CLIENT KILL": lambda: self._redis("CLIENT KILL", "CLIENT", "KILL", "TYPE", "normal"),
            "server full": self._fill,
            "claimed file written to": self._change_file,
            **(self._mount_and_clock_kinds() if self._mount else {}),
        }

    def _mount_and_clock_kinds(self) -> dict[str, Callable[[], Fault | None]]:
        return {
            "hung mount": self._hang_mount,
            "clock a day ahead": lambda: self._set_clock("clock a day ahead", 1),
            "clock a day behind": lambda: self._set_clock("clock a day behind", -1),
        }

    def _set_clock(self, kind: str, days: int) -> Fault | None:
        """Restart all programs but Redis with another clock; some seconds later, with the right one."""
        if any(not program.running or program.pid in self._terminated for program in self._clocked):
            return None
        now = time.time()
        killed = self._restart_with_clock(days)
        self._undo.append((time.monotonic() + CLOCK_SECONDS, self._reset_clock))
        return Fault(kind, now, now + CLOCK_SECONDS, frozenset(killed))

    def _restart_with_clock(self, days: int) -> list[int]:
        killed = self._worker_pids()
        for program in self._clocked:
            program.environment = {
                **program.environment, "LD_PRELOAD": str(self._clock_library), "CLOCK_OFFSET": str(days * 86_400),
            }  # fmt: skip
            self._terminated.add(program.pid)
            _signal(program.pid, signal.SIGKILL)
        return killed

    def _reset_clock(self) -> bool:
        if any(not program.running or program.pid in self._terminated for program in self._clocked):
            return False
        now = time.time()
        self.injected.append(Fault("clock corrected", now, now, frozenset(self._restart_with_clock(0))))
        return True

    @property
    def _clocked(self) -> tuple[Program, ...]:
        return self._stand.watcher, self._stand.worker, self._stand.beat

    def _hang_mount(self) -> Fault | None:
        assert self._mount
        seconds, now = self._random.uniform(*HUNG_SECONDS), time.time()
        self._mount.hang()
        threading.Timer(seconds, self._mount.answer).start()  # the drill itself may look into the mount meanwhile
        return Fault("hung mount", now, now + seconds)

    def _change_file(self) -> Fault | None:
        """Append to a claimed file, as a writer whom nobody sees would; None if there is none."""
        claimed = self._stand.root() / "claimed"
        found = [Path(folder, name) for folder, _, names in os.walk(claimed) for name in names if name.endswith(".bin")]
        for place in sorted(found):
            with contextlib.suppress(FileNotFoundError), place.open("r+b") as file:
                before = file.read()
                file.write(b"written after the claim")
                now = time.time()
                file.flush()
                if not place.exists():  # filed meanwhile: then nobody compares it any more
                    file.truncate(len(before))
                    return None
                digests = (hashlib.sha256(content).hexdigest() for content in (before, before + b"written after the claim"))
                return Fault("claimed file written to", now, now, changed=(next(digests), next(digests)))
        return None

    def _kill(self, kind: str, program: Program, number: signal.Signals = signal.SIGKILL) -> Fault | None:
        if not program.running or program.pid in self._terminated:
            return None
        self._terminated.add(program.pid)
        killed = self._worker_pids() if program is self._stand.worker and number is signal.SIGKILL else []
        now = time.time()
        _signal(program.pid, number)
        return Fault(kind, now, now, frozenset(killed))

    def _kill_group(self) -> Fault | None:
        pids = self._worker_pids()
        if len(pids) < 2:  # noqa: PLR2004 - the worker has no children yet
            return None
        self._terminated.add(pids[0])
        now = time.time()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        return Fault("kill -9 worker and children", now, now, frozenset(pids))

    def _kill_child(self) -> Fault | None:
        if not (children := self._worker_pids()[1:]):
            return None
        pid, now = self._random.choice(children), time.time()
        _signal(pid, signal.SIGKILL)
        return Fault("kill -9 worker's child", now, now, frozenset([pid]))

    def _worker_pids(self) -> list[int]:
        """Return the pids of the worker's main process and its children."""
        if not self._stand.worker.running:
            return []
        pid = self._stand.worker.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        return [pid, *map(int, children)]

    def _stop(self, kind: str, program: Program) -> Fault | None:
        return self._stop_pid(kind, program.pid) if program.running else None

    def _stop_child(self) -> Fault | None:
        children = self._worker_pids()[1:]
        return self._stop_pid("SIGSTOP worker's child", self._random.choice(children)) if children else None

    def _stop_pid(self, kind: str, pid: int) -> Fault:
        seconds = self._random.uniform(*STOPPED_SECONDS)
        now = time.time()
        _signal(pid, signal.SIGSTOP)
        self._undo.append((time.monotonic() + seconds, lambda: _signal(pid, signal.SIGCONT)))
        return Fault(kind, now, now + seconds)

    def _fill(self) -> Fault | None:
        if fault := self._redis("server full", "CONFIG", "SET", "maxmemory", "1"):
            undo = ("server not full", "CONFIG", "SET", "maxmemory", "0")
            self._undo.append((time.monotonic() + FULL_SECONDS, lambda: self._redis(*undo) is not None))
            return Fault(fault.kind, fault.at, fault.at + FULL_SECONDS)
        return None

    def _redis(self, kind: str, *command: str) -> Fault | None:
        now = time.time()
        try:
            with redis.Redis(
                unix_socket_path=str(self._stand.socket), socket_timeout=TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0)
            ) as client:
                client.execute_command(*command)
        except redis.RedisError:
            return None  # the server is down
        return Fault(kind, now, time.time())


def _signal(pid: int, number: signal.Signals) -> bool:
    with contextlib.suppress(ProcessLookupError):  # the process has exited
        os.kill(pid, number)
    return True
