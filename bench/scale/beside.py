"""A thread that drops lone files into another inbox while something large goes on."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.measure.trials import Lone, lone
from bench.peers.running import Running

PAUSES = (0.5, 2.0)
FOR_EVER = 1_000_000
LONGEST_SECONDS = 7200.0


class Beside:
    """Lone files in the inbox below ``root``, for as long as the ``with`` lasts; ``found`` has their latencies afterwards."""

    def __init__(self, running: Running, root: Path) -> None:
        self.found = Lone()
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
        """The longest that a file took; one that never arrived counts as for ever."""
        return float("inf") if self.found.missing or not self.found.milliseconds else max(self.found.milliseconds) / 1000

    def _drop(self, running: Running, root: Path) -> None:
        prefix = f"beside{time.monotonic_ns()}-"
        self.found = lone(running, FOR_EVER, LONGEST_SECONDS, prefix, until=self._stop.is_set, root=root, pauses=PAUSES)
