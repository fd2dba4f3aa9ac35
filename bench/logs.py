"""Reading logs: how long `inboxd trace` takes on a million lines in three programs' files, and on 200,000 journal entries.

Run it with `make bench-logs`. The commands are run as people run them, start of Python included: the median of some runs, in
processor seconds (journalctl's too) and by the clock, and the memory that was held at most. Exit code 1 when a trace takes a
second or more of the processor: the clock also counts what else the machine is doing. The journal needs root.
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

LIMIT_SECONDS = 1.0
RUNS = 5
LINES_A_FILE = 3.03
"""About so many lines does a file have in the long log."""


class Bench:
    """Runs commands, and shows a line for each."""

    def __init__(self) -> None:
        self.too_slow = False

    def run(self, what: str, *arguments: str, limit: float | None = None) -> None:
        """Run a command, several times where it has a limit."""
        taken = [_run(arguments) for _ in range(RUNS if limit is not None else 1)]
        wall, cpu = (statistics.median(took[column] for took in taken) for column in (0, 1))
        held, lines = max(took[2] for took in taken), taken[0][3]
        slow = limit is not None and cpu >= limit
        self.too_slow |= slow
        mark = "  TOO SLOW" if slow else ""
        print(f"{what:46} {cpu:6.2f} s cpu {wall:6.2f} s {held:5} MiB {lines:7} lines{mark}", flush=True)


def _run(arguments: Sequence[str]) -> tuple[float, float, int, int]:
    """Return a command's seconds, its and its children's processor seconds, the MiB that it held, the lines that it printed."""
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
    """Write three programs' logs; returns the last split's line, by which to search."""
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.log").open("w")) for name in ("watcher", "worker", "beat")}
        split: dict[str, Any] = {}
        for line in lines:
            if line["event"] == "parcel_split":
                split = line
            files[line["program"]].write(json.dumps(line) + "\n")
    return split


def rotate(folder: Path) -> None:
    """Rotate and compress the worker's log as logrotate would have: a third of it in each of three files."""
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


def of_files(bench: Bench, folder: Path, count: int) -> None:
    """Trace in files, uncompressed and then rotated and compressed."""
    traced = write(folder, long_log(int(count / LINES_A_FILE)))
    size = sum(path.stat().st_size for path in folder.iterdir())
    with ExitStack() as stack:
        lines = sum(1 for path in folder.iterdir() for _ in stack.enter_context(path.open("rb")))
    print(f"log files: {lines} lines, {size / 1e6:.0f} MB")
    place = str(folder)
    bench.run("trace FILE (split out of company)", "trace", traced["file"], place, limit=LIMIT_SECONDS)
    bench.run("trace PARCEL (the company's)", "trace", traced["out_of"], place, limit=LIMIT_SECONDS)
    bench.run("trace PARCEL (the split one's)", "trace", traced["parcel"], place, limit=LIMIT_SECONDS)
    bench.run("log --parcel ID", "log", "--parcel", traced["parcel"], place)
    bench.run("log --outcome done: a third of all lines", "log", "--outcome", "done", place)
    bench.run("log --file '*0001234.pdf'", "log", "--file", "*0001234.pdf", place, limit=LIMIT_SECONDS)
    bench.run("log -n 100", "log", "-n", "100", place, limit=LIMIT_SECONDS)
    bench.run("log: all lines", "log", place)
    bench.run("log --json: all lines", "log", "--json", place)
    bench.run("log --since: the last hour", "log", "--since", "2026-11-22T20:00:00+00:00", place)
    bench.run("log --outcome retried", "log", "--outcome", "retried", place)
    rotate(folder)
    bench.run("trace FILE, a third of the worker's log in .gz", "trace", traced["file"], place)


def of_a_path_dropped_daily(bench: Bench, folder: Path) -> None:
    """Trace a path that has had a thousand lives, in a company of twenty each time."""
    with (folder / "all.log").open("w") as file:
        for life in range(1000):
            parcel = f"{life:012x}{life:016x}"
            for name in ("daily.csv", *(f"{life} {other}.csv" for other in range(19))):
                for number, event in enumerate(("file_claimed", "file_handled", "file_done")):
                    file.write(json.dumps(table(event, 1.79e9 + life * 60 + number, file=name, parcel=parcel)) + "\n")
    print("log file: a path of 1,000 lives, 60,000 lines")
    bench.run("trace FILE (1,000 lives)", "trace", "daily.csv", str(folder))


def of_the_journal(bench: Bench, folder: Path, count: int) -> None:
    """Trace in a journal that a real journald has written."""
    traced: dict[str, Any] = {}
    digest = ""
    with Journald(folder) as journald:
        for line in long_log(int(count / LINES_A_FILE)):
            digest = digest or line.get("sha256", "")
            traced = line if line["event"] == "parcel_split" else traced
            journald.send(entry(line))
        journald.sync()
    size = sum(path.stat().st_size for path in folder.rglob("*.journal"))
    print(f"journal: {count} entries, {size / 1e6:.0f} MB")
    place = ("--journal", str(folder))
    bench.run("trace FILE (split out of company)", "trace", traced["file"], *place, limit=LIMIT_SECONDS)
    bench.run("trace PARCEL (the company's)", "trace", traced["out_of"], *place, limit=LIMIT_SECONDS)
    bench.run("trace SHA256", "trace", digest, *place, limit=LIMIT_SECONDS)
    bench.run("log --outcome retried", "log", "--outcome", "retried", *place)


def main() -> int:
    """Build the logs, and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, default=200_000)
    arguments = parser.parse_args()
    bench = Bench()
    with tempfile.TemporaryDirectory(prefix="inboxd-logs-") as made:
        folders = [Path(made) / name for name in ("files", "daily", "journal")]
        for folder in folders:
            folder.mkdir()
        of_files(bench, folders[0], arguments.lines)
        of_a_path_dropped_daily(bench, folders[1])
        of_the_journal(bench, folders[2], arguments.entries)
    return int(bench.too_slow)


if __name__ == "__main__":
    sys.exit(main())
