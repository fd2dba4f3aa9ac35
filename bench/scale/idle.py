"""A hundred idle inboxes: what all processes use and hold while nothing happens; and how soon the watcher is there."""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench.measure import processes
from bench.measure.figures import median
from bench.peers.peer import Command
from bench.peers.running import STOP_SECONDS, Running
from bench.report.verdict import Verdict
from bench.scale.started import FIRST, MIB, inboxd, write_settings

SETTLE_SECONDS = 20.0
"""What follows a start, and the files of its test, is over."""

STARTS = 5
STARTED = '"event": "started"'
LOOK_SECONDS = 0.002


def run(folder: Path, arguments: argparse.Namespace) -> list[Verdict]:
    """Let inboxd idle for a minute, then start the watcher some times."""
    others = [f"inbox{number}" for number in range(1, arguments.inboxes)]
    with inboxd(folder / "idle", others) as running:
        time.sleep(SETTLE_SECONDS)
        pids = [*sorted(running.tree()), running.server.pid]
        before = processes.table()
        time.sleep(arguments.seconds)
        after = processes.table()
        used = {pid: after[pid].cpu_seconds - before[pid].cpu_seconds for pid in pids}
        _show(used)
    share = sum(used.values()) / arguments.seconds
    started = starts(folder / "start")
    print(f"  watcher's starts: {', '.join(f'{seconds:.2f}' for seconds in started)} s")
    return [
        Verdict(f"{arguments.inboxes} idle inboxes, % of a core", share * 100, 1, at_least=False),
        Verdict("watcher's start with an empty inbox, s", median(started), 1, at_least=False),
    ]


def starts(folder: Path) -> list[float]:
    """Return how long the watcher took to be at work, from its exec to its own word of it; some times."""
    found = []
    with Running(folder) as running:
        file = write_settings(running, [FIRST])
        for number in range(STARTS):
            name = f"watcher{number}"
            begun = time.monotonic()
            process = running.spawn(Command(name, (sys.executable, "-m", "inboxd.watcher"), {"INBOXD_SETTINGS": str(file)}))
            log = folder / f"{name}.log"
            while STARTED not in log.read_text("utf-8"):
                assert process.poll() is None, f"the watcher has ended: {running.last_words(name)}"
                time.sleep(LOOK_SECONDS)
            found.append(time.monotonic() - begun)
            process.terminate()
            process.wait(STOP_SECONDS)
    return found


def _show(used: Mapping[int, float]) -> None:
    for pid, seconds in used.items():
        rss, pss = processes.rss_bytes(pid) / MIB, processes.pss_bytes([pid]) / MIB
        words = _words(processes.command(pid))
        print(f"  {seconds:5.2f} s of the processor, {rss:4.0f} MiB resident, {pss:4.0f} MiB PSS: {words}", flush=True)


def _words(command: str) -> str:
    return (command.partition(" -m ")[2] or command).partition(" --")[0]
