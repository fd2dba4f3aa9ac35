"""Time `inboxd trace` and `inboxd log` on a million lines in three programs' files, and on 200,000 journal entries.

Run `make bench-logs`. Whole commands are measured, including Python's start: the median CPU seconds (with journalctl's) and
wall-clock seconds of several runs, and the peak memory. The exit code is 1 if a command exceeds its limit of CPU time;
wall-clock time has no limit, since it depends on the machine's other load. The journal needs root.
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.live.journald import Journald, entry
from support.live.log_lines import long_log, table

LIMIT_CPU_SECONDS = 1.0
RUNS = 5
LINES_PER_FILE = 3.03
"""Average number of lines per file in the long log."""


class Bench:
    """Runs commands and prints a line for each."""

    def __init__(self) -> None:
        self.has_slow_command = False

    def run(self, title: str, *arguments: str, limit: float | None = None) -> None:
        """Run a command, several times if it has a limit of CPU seconds."""
        measured = [_run(arguments) for _ in range(RUNS if limit is not None else 1)]
        wall, cpu = (statistics.median(figures[column] for figures in measured) for column in (0, 1))
        mib, lines = max(figures[2] for figures in measured), measured[0][3]
        is_slow = limit is not None and cpu >= limit
        self.has_slow_command |= is_slow
        mark = "  TOO SLOW" if is_slow else ""
        print(f"{title:46} {cpu:6.2f} s cpu {wall:6.2f} s {mib:5} MiB {lines:7} lines{mark}", flush=True)


def _run(arguments: Sequence[str]) -> tuple[float, float, int, int]:
    """Return a command's wall-clock seconds, its and its children's CPU seconds, peak MiB and number of output lines."""
    with tempfile.TemporaryFile("w+") as out:
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "inboxd", *arguments], stdout=out)  # noqa: S603 - our own
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{arguments}: exit code {process.returncode}"
        out.seek(0)
        return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024, sum(1 for _ in out)


def write(folder: Path, lines: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Write three programs' logs; return the line of the last split, whose file and parcels are then traced."""
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.log").open("w")) for name in ("watcher", "worker", "beat")}
        split: dict[str, Any] = {}
        for line in lines:
            if line["event"] == "parcel_split":
                split = line
            files[line["program"]].write(json.dumps(line) + "\n")
    return split


def rotate(folder: Path) -> None:
    """Split the worker's log into three files of equal size, rotated and compressed as by logrotate."""
    log = folder / "worker.log"
    third = log.stat().st_size // 3
    with log.open("rb") as lines, gzip.open(folder / "worker.log.2.gz", "wb", 6) as oldest:
        while lines.tell() < third:
            oldest.write(lines.readline())
        with (folder / "worker.log.1").open("wb") as older:
            while lines.tell() < 2 * third:
                older.write(lines.readline())
        with (folder / "newest").open("wb") as newest:
            shutil.copyfileobj(lines, newest)
    (folder / "newest").rename(log)


def measure_files(bench: Bench, folder: Path, count: int) -> None:
    """Measure on files, uncompressed and then rotated and compressed."""
    traced = write(folder, long_log(int(count / LINES_PER_FILE)))
    size = sum(path.stat().st_size for path in folder.iterdir())
    with ExitStack() as stack:
        lines = sum(1 for path in folder.iterdir() for _ in stack.enter_context(path.open("rb")))
    print(f"log files: {lines} lines, {size / 1e6:.0f} MB")
    location = str(folder)
    bench.run("trace FILE (split out of its parcel)", "trace", traced["file"], location, limit=LIMIT_CPU_SECONDS)
    bench.run("trace PARCEL (before the split)", "trace", traced["out_of"], location, limit=LIMIT_CPU_SECONDS)
    bench.run("trace PARCEL (after the split)", "trace", traced["parcel"], location, limit=LIMIT_CPU_SECONDS)
    bench.run("log --parcel ID", "log", "--parcel", traced["parcel"], location)
    bench.run("log --outcome done: a third of all lines", "log", "--outcome", "done", location)
    bench.run("log --file '*0001234.pdf'", "log", "--file", "*0001234.pdf", location, limit=LIMIT_CPU_SECONDS)
    bench.run("log -n 100", "log", "-n", "100", location, limit=LIMIT_CPU_SECONDS)
    bench.run("log: all lines", "log", location)
    bench.run("log --json: all lines", "log", "--json", location)
    bench.run("log --since: the last hour", "log", "--since", "2026-11-22T20:00:00+00:00", location)
    bench.run("log --outcome retried", "log", "--outcome", "retried", location)
    rotate(folder)
    bench.run("trace FILE, a third of the worker's log in .gz", "trace", traced["file"], location)


def measure_daily_path(bench: Bench, folder: Path) -> None:
    """Trace a path that was dropped a thousand times, each time in a parcel of twenty files."""
    with (folder / "all.log").open("w") as file:
        for life in range(1000):
            parcel = f"{life:012x}{life:016x}"
            for name in ("daily.csv", *(f"{life} {other}.csv" for other in range(19))):
                for number, event in enumerate(("file_claimed", "file_handled", "file_done")):
                    file.write(json.dumps(table(event, 1.79e9 + life * 60 + number, file=name, parcel=parcel)) + "\n")
    print("log file: a path of 1,000 lives, 60,000 lines")
    bench.run("trace FILE (1,000 lives)", "trace", "daily.csv", str(folder))


def measure_journal(bench: Bench, folder: Path, count: int) -> None:
    """Measure on a journal that a real journald has written."""
    traced: dict[str, Any] = {}
    digest = ""
    with Journald(folder) as journald:
        for line in long_log(int(count / LINES_PER_FILE)):
            digest = digest or line.get("sha256", "")
            traced = line if line["event"] == "parcel_split" else traced
            journald.send(entry(line))
        journald.sync()
    size = sum(path.stat().st_size for path in folder.rglob("*.journal"))
    print(f"journal: {count} entries, {size / 1e6:.0f} MB")
    location = ("--journal", str(folder))
    bench.run("trace FILE (split out of its parcel)", "trace", traced["file"], *location, limit=LIMIT_CPU_SECONDS)
    bench.run("trace PARCEL (before the split)", "trace", traced["out_of"], *location, limit=LIMIT_CPU_SECONDS)
    bench.run("trace SHA256", "trace", digest, *location, limit=LIMIT_CPU_SECONDS)
    bench.run("log --outcome retried", "log", "--outcome", "retried", *location)


def main() -> int:
    """Write the logs and measure the commands; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, default=200_000)
    arguments = parser.parse_args()
    bench = Bench()
    with tempfile.TemporaryDirectory(prefix="inboxd-logs-") as temporary:
        folders = [Path(temporary) / name for name in ("files", "daily", "journal")]
        for folder in folders:
            folder.mkdir()
        measure_files(bench, folders[0], arguments.lines)
        measure_daily_path(bench, folders[1])
        measure_journal(bench, folders[2], arguments.entries)
    return int(bench.has_slow_command)


if __name__ == "__main__":
    sys.exit(main())
