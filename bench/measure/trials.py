"""The trials: a burst of files, lone files, and lone files beside other traffic; of any peer, all in the same way."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure.arrivals import Arrivals, Overflow
from bench.measure.dropping import FILE_BYTES, Dropper, prepare
from bench.measure.figures import ratio
from bench.measure.usage import Meter, Usage
from bench.peers.running import Running

LOOK_SECONDS = 0.01
MEMORY_SECONDS = 0.5
STALL_SECONDS = 20.0
"""A file that does not come within this, after the one before it, does not come at all."""

TRAILING_SECONDS = 1.0
"""Work may trail behind the last file: acknowledgements, results. It is counted, too."""

LONE_PAUSES = (0.02, 0.12)
"""Seconds between a lone file's arrival and the next one's drop, by chance: in step with nobody's timers."""


@dataclass(frozen=True)
class Burst:
    """Files dropped as fast as one process can: how many arrived, and the seconds from the first drop to the last arrival."""

    files: int
    arrived: int
    seconds: float
    drop_seconds: float
    usage: Usage

    @property
    def rate(self) -> float:
        """Files a second."""
        return ratio(self.arrived, self.seconds)


@dataclass(frozen=True)
class Lone:
    """Files dropped one by one: milliseconds from close to done/, and how many never arrived."""

    milliseconds: list[float] = field(default_factory=list)
    missing: int = 0
    traffic: float = 0.0
    """Other files a second, meanwhile, as dropped …"""
    followed: float = 0.0
    """… and as filed."""


def burst(running: Running, count: int, prefix: str = "burst") -> Burst:
    """Drop files, and wait until all have arrived, or no more do. Raises NotRunning."""
    source = running.folder / prefix
    prepare(source, prefix, count)
    os.sync()  # writing these back is none of the trial's business
    meter = Meter(running.pids, running.server.pid)
    with Arrivals(running.path("done")) as arrivals:
        dropper = Dropper(source, running.path("inbox"))
        counter = _Counter(running, arrivals, prefix, meter)
        counter.run(lambda arrived: arrived >= count)
        dropped = dropper.result()
    time.sleep(TRAILING_SECONDS)
    last = counter.last or time.monotonic()
    return Burst(count, counter.arrived, last - dropped.first, dropped.last - dropped.first, meter.read())


def drop_alone(folder: Path, count: int) -> float:
    """Return how many files a second the dropper alone can drop, into a folder that nobody watches."""
    prepare(folder / "alone", "alone", count)
    (folder / "nobody").mkdir()
    dropped = Dropper(folder / "alone", folder / "nobody").result()
    return ratio(count, dropped.last - dropped.first)


def lone(
    running: Running,
    count: int,
    seconds: float,
    prefix: str = "lone",
    *,
    until: Callable[[], bool] = lambda: False,
    root: Path | None = None,
    pauses: tuple[float, float] = LONE_PAUSES,
) -> Lone:
    """Write up to ``count`` files into an inbox, each when the one before has arrived, for ``seconds`` at most.

    The inbox is the one below ``root``, by default the peer's first. Raises NotRunning.
    """
    root = root or running.root
    dice = random.Random(prefix)  # noqa: S311 - for timing
    taken, missing = [], 0
    deadline = time.monotonic() + seconds
    with Arrivals(root / "done") as arrivals:
        for number in range(count):
            if time.monotonic() > deadline or until():
                break
            name = f"{prefix}{number:07}.bin"
            body = os.urandom(FILE_BYTES)
            with (root / "inbox" / name).open("wb") as file:
                file.write(body)
            closed = time.monotonic()
            arrived = arrivals.wait_for(name.encode(), STALL_SECONDS)
            if arrived is None:
                running.check()
                missing += 1
            else:
                taken.append((arrived - closed) * 1000)
            time.sleep(dice.uniform(*pauses))
    return Lone(taken, missing)


def beside_traffic(running: Running, rate: float, seconds: float) -> Lone:
    """Write lone files while others are dropped at an even pace. Raises NotRunning."""
    count = int(rate * seconds)
    source = running.folder / "traffic"
    prepare(source, "traffic", count)
    os.sync()
    with Arrivals(running.path("done")) as arrivals:
        dropper = Dropper(source, running.path("inbox"), rate)
        alone = lone(running, count, seconds, "beside", until=lambda: not dropper.busy)
        dropped = dropper.result()
        counter = _Counter(running, arrivals, "traffic")
        counter.run(lambda arrived: arrived >= count)
    span = (counter.last or time.monotonic()) - dropped.first
    return Lone(alone.milliseconds, alone.missing, ratio(count, dropped.last - dropped.first), ratio(counter.arrived, span))


class _Counter:
    """Counts arrivals whose names begin alike, until enough have come or no more do."""

    def __init__(self, running: Running, arrivals: Arrivals, prefix: str, meter: Meter | None = None) -> None:
        self.arrived = 0
        self.last: float | None = None
        self._running = running
        self._arrivals = arrivals
        self._prefix = prefix.encode()
        self._meter = meter
        self._listed = False  # since events were lost

    def run(self, enough: Callable[[int], bool]) -> None:
        """Count until it is enough, or nothing came for too long. Raises NotRunning."""
        moved = looked = time.monotonic()
        while not enough(self.arrived):
            time.sleep(MEMORY_SECONDS if self._listed else LOOK_SECONDS)
            now = time.monotonic()
            if self._count():
                moved = self.last = now
            if now - moved > STALL_SECONDS:
                return
            if now - looked > MEMORY_SECONDS:
                looked = now
                self._running.check()
                if self._meter:
                    self._meter.look()

    def _count(self) -> bool:
        before = self.arrived
        try:
            names = self._arrivals.pending()
        except Overflow:
            self._listed = True
        if self._listed:
            names, self.arrived = os.listdir(os.fsencode(self._running.path("done"))), 0  # noqa: PTH208 - names are all
        self.arrived += sum(name.startswith(self._prefix) for name in names)
        return self.arrived > before
