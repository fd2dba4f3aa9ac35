"""The trials that each peer runs: a burst of files, lone files, and lone files beside other traffic."""

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

POLL_SECONDS = 0.01
SAMPLE_SECONDS = 0.5
STALL_SECONDS = 20.0
"""Maximum wait for the next file; after this the remaining files count as lost."""

TRAILING_SECONDS = 1.0
"""Time after the last file during which usage is still measured: acknowledgements and results may follow."""

LONE_PAUSES = (0.02, 0.12)
"""Range of the random seconds between a lone file's arrival and the next drop, so as not to align with timers."""


@dataclass(frozen=True)
class Burst:
    """Files dropped at full speed by one process; ``seconds`` is from the first drop to the last arrival."""

    files: int
    arrived: int
    seconds: float
    drop_seconds: float
    usage: Usage

    @property
    def rate(self) -> float:
        """Arrived files per second."""
        return ratio(self.arrived, self.seconds)


@dataclass(frozen=True)
class LoneFiles:
    """Files dropped one by one: milliseconds from close to done/, and the number that never arrived."""

    milliseconds: list[float] = field(default_factory=list)
    missing: int = 0
    traffic: float = 0.0
    """Other files dropped per second meanwhile."""
    traffic_filed: float = 0.0
    """Other files filed per second meanwhile."""


def burst(running: Running, count: int, prefix: str = "burst") -> Burst:
    """Drop files, and wait until all have arrived or none does for STALL_SECONDS. Raises NotRunning."""
    source = running.folder / prefix
    prepare(source, prefix, count)
    os.sync()  # keeps the write-back of these files out of the trial
    meter = Meter(running.pids, running.server.pid)
    with Arrivals(running.path("done")) as arrivals:
        dropper = Dropper(source, running.path("inbox"))
        counter = _Counter(running, arrivals, prefix, meter)
        counter.run(count)
        dropped = dropper.result()
    time.sleep(TRAILING_SECONDS)
    last = counter.last or time.monotonic()
    return Burst(count, counter.arrived, last - dropped.first, dropped.last - dropped.first, meter.read())


def drop_alone(folder: Path, count: int) -> float:
    """Return how many files per second the dropper can rename into a folder that no process watches."""
    prepare(folder / "alone", "alone", count)
    (folder / "unwatched").mkdir()
    dropped = Dropper(folder / "alone", folder / "unwatched").result()
    return ratio(count, dropped.last - dropped.first)


def lone(
    running: Running,
    count: int,
    seconds: float,
    prefix: str = "lone",
    *,
    should_stop: Callable[[], bool] = lambda: False,
    root: Path | None = None,
    pauses: tuple[float, float] = LONE_PAUSES,
) -> LoneFiles:
    """Write up to ``count`` files into an inbox, each after the previous one has arrived, for ``seconds`` at most.

    The inbox's root is ``root``, by default the peer's first root. Raises NotRunning.
    """
    root = root or running.root
    pause_random = random.Random(prefix)  # noqa: S311 - for timing
    milliseconds, missing = [], 0
    deadline = time.monotonic() + seconds
    with Arrivals(root / "done") as arrivals:
        for number in range(count):
            if time.monotonic() > deadline or should_stop():
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
                milliseconds.append((arrived - closed) * 1000)
            time.sleep(pause_random.uniform(*pauses))
    return LoneFiles(milliseconds, missing)


def beside_traffic(running: Running, rate: float, seconds: float) -> LoneFiles:
    """Write lone files while others are dropped at a constant rate. Raises NotRunning."""
    count = int(rate * seconds)
    source = running.folder / "traffic"
    prepare(source, "traffic", count)
    os.sync()
    with Arrivals(running.path("done")) as arrivals:
        dropper = Dropper(source, running.path("inbox"), rate)
        lone_files = lone(running, count, seconds, "beside", should_stop=lambda: not dropper.is_running)
        dropped = dropper.result()
        counter = _Counter(running, arrivals, "traffic")
        counter.run(count)
    seconds_filed = (counter.last or time.monotonic()) - dropped.first
    rates = ratio(count, dropped.last - dropped.first), ratio(counter.arrived, seconds_filed)
    return LoneFiles(lone_files.milliseconds, lone_files.missing, *rates)


class _Counter:
    """Counts arrivals with a name prefix, until all have arrived or no more do."""

    def __init__(self, running: Running, arrivals: Arrivals, prefix: str, meter: Meter | None = None) -> None:
        self.arrived = 0
        self.last: float | None = None
        self._running = running
        self._arrivals = arrivals
        self._prefix = prefix.encode()
        self._meter = meter
        self._has_overflowed = False

    def run(self, count: int) -> None:
        """Count up to ``count`` arrivals, or until none comes for STALL_SECONDS. Raises NotRunning."""
        arrived_at = sampled_at = time.monotonic()
        while self.arrived < count:
            time.sleep(SAMPLE_SECONDS if self._has_overflowed else POLL_SECONDS)
            now = time.monotonic()
            if self._count():
                arrived_at = self.last = now
            if now - arrived_at > STALL_SECONDS:
                return
            if now - sampled_at > SAMPLE_SECONDS:
                sampled_at = now
                self._running.check()
                if self._meter:
                    self._meter.sample()

    def _count(self) -> bool:
        before = self.arrived
        try:
            names = self._arrivals.pending()
        except Overflow:
            self._has_overflowed = True
        if self._has_overflowed:
            names, self.arrived = os.listdir(os.fsencode(self._running.path("done"))), 0  # noqa: PTH208 - only names are needed
        self.arrived += sum(name.startswith(self._prefix) for name in names)
        return self.arrived > before
