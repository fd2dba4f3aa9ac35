"""A million files in one inbox: the rate beside that of ten thousand, the memory, and another inbox meanwhile."""

import argparse
from pathlib import Path

import redis

from bench.measure import trials
from bench.measure.figures import median, ratio
from bench.peers.running import Running
from bench.report.verdict import Verdict
from bench.scale.beside import Beside
from bench.scale.started import MIB, inboxd, peak_mib, root, watcher

OTHER = "other"
COMPARED_FILES = 10_000
COMPARED_TIMES = 3
WARM_FILES = 300


def run(folder: Path, arguments: argparse.Namespace) -> list[Verdict]:
    """Drop some bursts of 10,000, then one of a million."""
    with inboxd(folder, [OTHER]) as running:
        trials.burst(running, WARM_FILES, "warm")
        small = [trials.burst(running, COMPARED_FILES, f"small{number}-") for number in range(COMPARED_TIMES)]
        print(f"  {COMPARED_FILES:,} files: {', '.join(f'{burst.rate:,.0f}' for burst in small)} files/s", flush=True)
        with Beside(running, root(running, OTHER)) as beside:
            large = trials.burst(running, arguments.files, "large")
        print(f"  {large.arrived:,} files: {large.rate:,.0f} files/s, dropped in {large.drop_seconds:.1f} s", flush=True)
        usage = large.usage
        print(f"  processor: {usage.cpu_seconds:.0f} s, and the server's {usage.server_cpu_seconds:.0f} s", flush=True)
        print(f"  all processes: at most {usage.peak_mib:.0f} MiB (PSS), the server {usage.server_peak_mib:.0f} MiB")
        print(f"  beside it: {len(beside.found.milliseconds)} files in another inbox, worst {beside.worst_seconds:.2f} s")
        return [
            Verdict("rate at a million, share of that at 10,000", ratio(large.rate, _rate(small)), 0.8, at_least=True),
            Verdict("files lost", large.files - large.arrived, 0, at_least=False),
            Verdict("watcher's peak memory, MiB", peak_mib(watcher(running)), 120, at_least=False),
            Verdict("server's peak memory, MiB", server_peak_mib(running), 200, at_least=False),
            Verdict("a file in another inbox meanwhile, worst in s", beside.worst_seconds, 1, at_least=False),
        ]


def server_peak_mib(running: Running) -> float:
    """Return the most that the server has held, as it says itself or as the system says: whichever is more."""
    with redis.Redis(unix_socket_path=str(running.server.socket)) as client:
        said = float(client.info("memory")["used_memory_peak"]) / MIB
    return max(said, peak_mib(running.server.pid))


def _rate(bursts: list[trials.Burst]) -> float:
    return median([burst.rate for burst in bursts])
