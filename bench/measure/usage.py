"""What a peer and its server use during a run: processor seconds, and the most memory that was seen."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.measure import processes

MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """Processor seconds, and MiB (PSS: shared pages counted once), of the peer's processes and of the server."""

    cpu_seconds: float
    server_cpu_seconds: float
    peak_mib: float
    server_peak_mib: float
    by_process: dict[str, float] = field(default_factory=dict)
    """Processor seconds by what a process runs; of forks, all together."""


class Meter:
    """Looks now and then; the processor seconds are exact, the memory is what was seen."""

    def __init__(self, roots: Sequence[int], server: int) -> None:
        self._roots = roots
        self._server = server
        self._begun = self._cpu()
        self._table = processes.table()
        self._peak = self._server_peak = 0.0
        self.look()

    def look(self) -> None:
        """See what is held just now."""
        tree = processes.tree(self._roots, processes.table())
        self._peak = max(self._peak, processes.pss_bytes(tree) / MIB)
        self._server_peak = max(self._server_peak, processes.pss_bytes([self._server]) / MIB)

    def read(self) -> Usage:
        """Return what was used since the beginning."""
        self.look()
        now = self._cpu()
        return Usage(now[0] - self._begun[0], now[1] - self._begun[1], self._peak, self._server_peak, self._by_process())

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
