"""Many inboxes, and many sub-folders: memory, and how soon a file is through."""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import trials
from bench.measure.dropping import FILE_BYTES
from bench.measure.figures import percentile
from bench.peers.running import NotRunning, Running
from bench.report.verdict import Verdict
from bench.scale.beside import Beside
from bench.scale.million import OTHER, server_peak_mib
from bench.scale.started import inboxd, peak_mib, root, watcher

LOOK_SECONDS = 1.0
STALL_SECONDS = 60.0
LONE_FILES = 100
FAN = 100
"""A tree's top has so many folders, and each of them as many as are left."""

WATCHER_MIB_MAX, SERVER_MIB_MAX = 120, 200


def inboxes(folder: Path, arguments: argparse.Namespace) -> list[Verdict]:
    """Drop a file into each of many inboxes at once; then lone files into one of them."""
    others = [f"inbox{number}" for number in range(1, arguments.inboxes)]
    begun = time.monotonic()
    with inboxd(folder, others) as running:
        print(f"  a first file came through {time.monotonic() - begun:.1f} s after the start", flush=True)
        begun = time.monotonic()
        for name in others:
            (root(running, name) / "inbox" / "one.bin").write_bytes(name.encode())
        _wait(running, lambda: sum((root(running, name) / "done" / "one.bin").exists() for name in others), len(others))
        taken = time.monotonic() - begun
        print(f"  {len(others)} files in as many inboxes: {taken:.1f} s", flush=True)
        alone = trials.lone(running, LONE_FILES, 60.0, root=root(running, others[len(others) // 2]))
        p50, p99 = (percentile(alone.milliseconds, share) for share in (0.5, 0.99))
        print(f"  lone files: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {alone.missing} lost")
        return [
            Verdict(f"{arguments.inboxes} inboxes: lone file, p99 in ms", p99, 1000, at_least=False),
            Verdict("watcher's peak memory, MiB", peak_mib(watcher(running)), WATCHER_MIB_MAX, at_least=False),
            Verdict("server's peak memory, MiB", server_peak_mib(running), SERVER_MIB_MAX, at_least=False),
        ]


def tree(folder: Path, arguments: argparse.Namespace) -> list[Verdict]:
    """Move a tree of many folders into an inbox, folder by folder of its top."""
    with inboxd(folder, [OTHER]) as running:
        made = _make(running.folder / "tree", arguments.folders, arguments.files)
        os.sync()
        done = running.path("done")
        already = _count(done)
        with Beside(running, root(running, OTHER)) as beside:
            begun = time.monotonic()
            for top in sorted((running.folder / "tree").iterdir()):
                top.rename(running.path("inbox", top.name))
            _wait(running, lambda: _count(done) - already, made)
            taken = time.monotonic() - begun
        print(f"  {made:,} files in {arguments.folders:,} sub-folders: {made / taken:,.0f} files/s")
        print(f"  beside it: {len(beside.found.milliseconds)} files in another inbox, worst {beside.worst_seconds:.2f} s")
        return [
            Verdict("files filed", _count(done) - already, made, at_least=True),
            Verdict("watcher's peak memory, MiB", peak_mib(watcher(running)), WATCHER_MIB_MAX, at_least=False),
            Verdict("server's peak memory, MiB", server_peak_mib(running), SERVER_MIB_MAX, at_least=False),
            Verdict("a file in another inbox meanwhile, worst in s", beside.worst_seconds, 1, at_least=False),
        ]


def _make(top: Path, folders: int, files: int) -> int:
    """Write so many files, evenly, into so many folders two levels down; return how many they are."""
    each = files // folders
    body = os.urandom(FILE_BYTES)
    for number in range(folders):
        below = top / f"top{number % FAN:03}" / f"sub{number // FAN:05}"
        below.mkdir(parents=True)
        for file in range(each):
            (below / f"{file}.bin").write_bytes(b"%08d %08d" % (number, file) + body[17:])
    return each * folders


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _wait(running: Running, count: Callable[[], int], enough: int) -> None:
    """Wait until there are enough. Raises NotRunning when there are no more for a while."""
    last, moved = -1, time.monotonic()
    while (now := count()) < enough:
        running.check()
        if now > last:
            last, moved = now, time.monotonic()
        if time.monotonic() - moved > STALL_SECONDS:
            raise NotRunning(f"{now} of {enough} files were filed, and then no more")
        time.sleep(LOOK_SECONDS)
