"""Measure the processor time and peak memory of a peer and its server during a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.measure import processes

MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """CPU seconds and peak memory in MiB (PSS, which counts shared pages once) of the peer's processes and of the server."""

    cpu_seconds: float
    server_cpu_seconds: float
    peak_mib: float
    server_peak_mib: float
    by_process: dict[str, float] = field(default_factory=dict)
    """CPU seconds by process label; forks are summed."""


class Meter:
    """Samples usage: CPU seconds are exact, peak memory is the largest sample."""

    def __init__(self, roots: Sequence[int], server: int) -> None:
        self._roots = roots
        self._server = server
        self._start = self._cpu()
        self._table = processes.table()
        self._peak = self._server_peak = 0.0
        self.sample()

    def sample(self) -> None:
        """Update the peaks with the current memory."""
        tree = processes.tree(self._roots, processes.table())
        self._peak = max(self._peak, processes.pss_bytes(tree) / MIB)
        self._server_peak = max(self._server_peak, processes.pss_bytes([self._server]) / MIB)

    def read(self) -> Usage:
        """Return the usage since the meter was created."""
        self.sample()
        now = self._cpu()
        return Usage(now[0] - self._start[0], now[1] - self._start[1], self._peak, self._server_peak, self._by_process())

    def _by_process(self) -> dict[str, float]:
        table = processes.table()
        used: dict[str, float] = {}
        for pid in processes.tree(self._roots, table) & self._table.keys():
            name = processes.label(pid, table)
            used[name] = used.get(name, 0.0) + table[pid].cpu_seconds - self._table[pid].cpu_seconds
        return used

    def _cpu(self) -> tuple[float, float]:
        table = processes.table()
        return processes.cpu_seconds(self._roots, table), processes.cpu_seconds([self._server], table)
