"""A million files in one inbox: the rate compared with ten thousand files, memory, and another inbox's latency."""

import argparse
from pathlib import Path

import redis

from bench.measure import trials
from bench.measure.figures import median, ratio
from bench.peers.running import Running
from bench.report.limits import LimitCheck
from bench.scale.instance import MIB, peak_mib, root_of, run_inboxd, watcher_pid
from bench.scale.other_inbox import OtherInboxProbe

OTHER = "other"
COMPARED_FILES = 10_000
COMPARED_TIMES = 3
WARM_FILES = 300


def run(folder: Path, arguments: argparse.Namespace) -> list[LimitCheck]:
    """Drop several bursts of 10,000 files, then one of a million."""
    with run_inboxd(folder, [OTHER]) as running:
        trials.burst(running, WARM_FILES, "warm")
        small = [trials.burst(running, COMPARED_FILES, f"small{number}-") for number in range(COMPARED_TIMES)]
        print(f"  {COMPARED_FILES:,} files: {', '.join(f'{burst.rate:,.0f}' for burst in small)} files/s", flush=True)
        with OtherInboxProbe(running, root_of(running, OTHER)) as probe:
            large = trials.burst(running, arguments.files, "large")
        print(f"  {large.arrived:,} files: {large.rate:,.0f} files/s, dropped in {large.drop_seconds:.1f} s", flush=True)
        small_rate, usage = median([burst.rate for burst in small]), large.usage
        print(f"  processor time: {usage.cpu_seconds:.0f} s, server {usage.server_cpu_seconds:.0f} s", flush=True)
        print(f"  peak memory: {usage.peak_mib:.0f} MiB (PSS), server {usage.server_peak_mib:.0f} MiB")
        print(f"  meanwhile: {len(probe.result.milliseconds)} files in another inbox, slowest {probe.worst_seconds:.2f} s")
        return [
            LimitCheck("rate at a million, share of that at 10,000", ratio(large.rate, small_rate), 0.8, is_minimum=True),
            LimitCheck("files lost", large.files - large.arrived, 0, is_minimum=False),
            LimitCheck("watcher's peak memory, MiB", peak_mib(watcher_pid(running)), 120, is_minimum=False),
            LimitCheck("server's peak memory, MiB", server_peak_mib(running), 200, is_minimum=False),
            LimitCheck("a file in another inbox meanwhile, slowest in s", probe.worst_seconds, 1, is_minimum=False),
        ]


def server_peak_mib(running: Running) -> float:
    """Return the server's peak memory in MiB: the larger of its own figure and the kernel's."""
    with redis.Redis(unix_socket_path=str(running.server.socket)) as client:
        own_peak = float(client.info("memory")["used_memory_peak"]) / MIB
    return max(own_peak, peak_mib(running.server.pid))
