"""Many inboxes and many sub-folders: memory and latency."""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import trials
from bench.measure.dropping import FILE_BYTES
from bench.measure.figures import percentile
from bench.peers.running import NotRunning, Running
from bench.report.limits import LimitCheck
from bench.scale.instance import peak_mib, root_of, run_inboxd, watcher_pid
from bench.scale.million import OTHER, server_peak_mib
from bench.scale.other_inbox import OtherInboxProbe

POLL_SECONDS = 1.0
STALL_SECONDS = 60.0
LONE_FILES = 100
TOP_FOLDERS = 100
"""The number of folders at the top of the tree; all others are below these."""

WATCHER_MIB_MAX, WATCHER_THREADS_MAX, SERVER_MIB_MAX = 120, 19, 200


def inboxes(folder: Path, arguments: argparse.Namespace) -> list[LimitCheck]:
    """Drop a file into each of many inboxes at once; then lone files into one of them."""
    others = [f"inbox{number}" for number in range(1, arguments.inboxes)]
    begun = time.monotonic()
    with run_inboxd(folder, others) as running:
        print(f"  the first file was filed {time.monotonic() - begun:.1f} s after the start", flush=True)
        begun = time.monotonic()
        for name in others:
            (root_of(running, name) / "inbox" / "one.bin").write_bytes(name.encode())
        _wait(running, lambda: sum((root_of(running, name) / "done" / "one.bin").exists() for name in others), len(others))
        seconds = time.monotonic() - begun
        print(f"  {len(others)} files in as many inboxes: {seconds:.1f} s", flush=True)
        lone_files = trials.lone(running, LONE_FILES, 60.0, root=root_of(running, others[len(others) // 2]))
        p50, p99 = (percentile(lone_files.milliseconds, share) for share in (0.5, 0.99))
        threads = len(list(Path(f"/proc/{watcher_pid(running)}/task").iterdir()))
        print(f"  lone files: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {lone_files.missing} lost")
        return [
            LimitCheck(f"{arguments.inboxes} inboxes: lone file, p99 in ms", p99, 1000, is_minimum=False),
            LimitCheck("watcher's peak memory, MiB", peak_mib(watcher_pid(running)), WATCHER_MIB_MAX, is_minimum=False),
            LimitCheck("watcher's threads", threads, WATCHER_THREADS_MAX, is_minimum=False),
            LimitCheck("server's peak memory, MiB", server_peak_mib(running), SERVER_MIB_MAX, is_minimum=False),
        ]


def tree(folder: Path, arguments: argparse.Namespace) -> list[LimitCheck]:
    """Move a tree of many folders into an inbox, one top folder after another."""
    with run_inboxd(folder, [OTHER]) as running:
        expected = _make_tree(running.folder / "tree", arguments.folders, arguments.files)
        os.sync()
        done = running.path("done")
        filed_before = _count(done)
        with OtherInboxProbe(running, root_of(running, OTHER)) as probe:
            begun = time.monotonic()
            for top in sorted((running.folder / "tree").iterdir()):
                top.rename(running.path("inbox", top.name))
            _wait(running, lambda: _count(done) - filed_before, expected)
            seconds = time.monotonic() - begun
        print(f"  {expected:,} files in {arguments.folders:,} sub-folders: {expected / seconds:,.0f} files/s")
        print(f"  meanwhile: {len(probe.result.milliseconds)} files in another inbox, slowest {probe.worst_seconds:.2f} s")
        return [
            LimitCheck("files filed", _count(done) - filed_before, expected, is_minimum=True),
            LimitCheck("watcher's peak memory, MiB", peak_mib(watcher_pid(running)), WATCHER_MIB_MAX, is_minimum=False),
            LimitCheck("server's peak memory, MiB", server_peak_mib(running), SERVER_MIB_MAX, is_minimum=False),
            LimitCheck("a file in another inbox meanwhile, slowest in s", probe.worst_seconds, 1, is_minimum=False),
        ]


def _make_tree(top: Path, folders: int, files: int) -> int:
    """Write the same number of files into each of the folders, two levels down; return the number of files."""
    files_per_folder = files // folders
    body = os.urandom(FILE_BYTES)
    for number in range(folders):
        folder = top / f"top{number % TOP_FOLDERS:03}" / f"sub{number // TOP_FOLDERS:05}"
        folder.mkdir(parents=True)
        for file in range(files_per_folder):
            (folder / f"{file}.bin").write_bytes(b"%08d %08d" % (number, file) + body[17:])
    return files_per_folder * folders


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _wait(running: Running, count: Callable[[], int], expected: int) -> None:
    """Wait until the count is as expected. Raises NotRunning if the count does not rise for STALL_SECONDS."""
    last, changed_at = -1, time.monotonic()
    while (now := count()) < expected:
        running.check()
        if now > last:
            last, changed_at = now, time.monotonic()
        if time.monotonic() - changed_at > STALL_SECONDS:
            raise NotRunning(f"{now} of {expected} files were filed, then none for {STALL_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
