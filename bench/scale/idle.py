"""A hundred idle inboxes: processor time and memory of all processes, and the watcher's start time."""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench.measure import processes
from bench.measure.figures import median
from bench.peers.peer import Command
from bench.peers.running import STOP_SECONDS, Running
from bench.report.limits import LimitCheck
from bench.scale.instance import FIRST_INBOX, MIB, run_inboxd, write_settings

SETTLE_SECONDS = 20.0
"""Time after the start before the measurement, so that the start's work is over."""

STARTS = 5
STARTED = '"event": "started"'
POLL_SECONDS = 0.002


def run(folder: Path, arguments: argparse.Namespace) -> list[LimitCheck]:
    """Measure idle inboxd, by default for a minute, then the start time of the watcher."""
    others = [f"inbox{number}" for number in range(1, arguments.inboxes)]
    with run_inboxd(folder / "idle", others) as running:
        time.sleep(SETTLE_SECONDS)
        pids = [*sorted(running.tree()), running.server.pid]
        before = processes.table()
        time.sleep(arguments.seconds)
        after = processes.table()
        used = {pid: after[pid].cpu_seconds - before[pid].cpu_seconds for pid in pids}
        _print_usage(used)
    share = sum(used.values()) / arguments.seconds
    start_seconds = measure_starts(folder / "start")
    print(f"  watcher's start times: {', '.join(f'{seconds:.2f}' for seconds in start_seconds)} s")
    return [
        LimitCheck(f"{arguments.inboxes} idle inboxes, % of a core", share * 100, 1, is_minimum=False),
        LimitCheck("watcher's start with an empty inbox, s", median(start_seconds), 1, is_minimum=False),
    ]


def measure_starts(folder: Path) -> list[float]:
    """Return the seconds from the watcher's exec to its event "started", for several starts."""
    start_seconds = []
    with Running(folder) as running:
        file = write_settings(running, [FIRST_INBOX])
        for number in range(STARTS):
            name = f"watcher{number}"
            begun = time.monotonic()
            process = running.spawn(Command(name, (sys.executable, "-m", "inboxd.watcher"), {"INBOXD_SETTINGS": str(file)}))
            log = folder / f"{name}.log"
            while STARTED not in log.read_text("utf-8"):
                assert process.poll() is None, f"the watcher has exited: {running.last_log_line(name)}"
                time.sleep(POLL_SECONDS)
            start_seconds.append(time.monotonic() - begun)
            process.terminate()
            process.wait(STOP_SECONDS)
    return start_seconds


def _print_usage(used: Mapping[int, float]) -> None:
    for pid, seconds in used.items():
        rss, pss = processes.rss_bytes(pid) / MIB, processes.pss_bytes([pid]) / MIB
        name = _short_name(processes.command(pid))
        print(f"  {seconds:5.2f} CPU s, {rss:4.0f} MiB resident, {pss:4.0f} MiB PSS: {name}", flush=True)


def _short_name(command: str) -> str:
    return (command.partition(" -m ")[2] or command).partition(" --")[0]
