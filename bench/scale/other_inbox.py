"""Measure the latency of another inbox during a large load."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.measure.trials import LoneFiles, lone
from bench.peers.running import Running

PAUSES = (0.5, 2.0)
FILES_MAX = 1_000_000
SECONDS_MAX = 7200.0


class OtherInboxProbe:
    """A thread that drops lone files into the inbox at ``root`` while the ``with`` block runs; then sets ``result``."""

    def __init__(self, running: Running, root: Path) -> None:
        self.result = LoneFiles()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drop, args=(running, root))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def worst_seconds(self) -> float:
        """The longest latency of a file; infinite if one never arrived."""
        return float("inf") if self.result.missing or not self.result.milliseconds else max(self.result.milliseconds) / 1000

    def _drop(self, running: Running, root: Path) -> None:
        prefix = f"beside{time.monotonic_ns()}-"
        self.result = lone(running, FILES_MAX, SECONDS_MAX, prefix, should_stop=self._stop.is_set, root=root, pauses=PAUSES)
