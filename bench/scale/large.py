"""One large file: how fast it is hashed and filed, beside sha256sum, and what watcher and worker hold meanwhile."""

import argparse
import hashlib
import subprocess
import time
from pathlib import Path

from bench.measure import processes, trials
from bench.measure.arrivals import Arrivals
from bench.measure.figures import median, ratio
from bench.peers.running import NotRunning, Running
from bench.report.verdict import Verdict
from bench.scale.started import MIB, inboxd

NAME = "large.bin"
BLOCK_BYTES = 16 * MIB
WAIT_SECONDS = 600.0
GROWTH_MIB_MAX = 16.0
"""More than this beside what a process held before is no longer flat: buffers of a few MiB are."""

WARM_FILES = 300


def run(folder: Path, arguments: argparse.Namespace) -> list[Verdict]:
    """Hash the same file in turns: sha256sum, hashlib, inboxd."""
    source = folder / NAME
    folder.mkdir()
    digest = write(source, arguments.gigabytes * 10**9)
    plain, python, ours = [], [], []
    with inboxd(folder / "run") as running:
        trials.burst(running, WARM_FILES, "warm")
        before = {pid: processes.rss_bytes(pid) for pid in running.tree()}
        for pid in before:
            processes.reset_peak(pid)
        for _ in range(arguments.repeats):
            plain.append(_sha256sum(source))
            python.append(_hashlib(source))
            ours.append(_inboxd(running, source))
        grown = {pid: (processes.peak_rss_bytes(pid) - held) / MIB for pid, held in before.items()}
        told = digest in (running.folder / "inboxd.log").read_text("utf-8")
    size = source.stat().st_size
    for name, taken in (("sha256sum", plain), ("hashlib", python), ("inboxd", ours)):
        print(f"  {name}: {', '.join(f'{size / seconds / 1e6:,.0f}' for seconds in taken)} MB/s", flush=True)
    return [
        Verdict("a large file's rate, share of sha256sum's", ratio(median(plain), median(ours)), 0.8, at_least=True),
        Verdict("… and of hashlib's", ratio(median(python), median(ours)), 0.8, at_least=True),
        Verdict("the right hash in the log", float(told), 1, at_least=True),
        Verdict("growth of any process's memory, MiB", max(grown.values()), GROWTH_MIB_MAX, at_least=False),
    ]


def write(path: Path, size: int) -> str:
    """Write a file of so many bytes, no two blocks alike; returns its SHA-256, hex."""
    body = hashlib.shake_256(b"block").digest(BLOCK_BYTES)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(0, size, BLOCK_BYTES):
            block = (b"%016d" % number + body)[: min(BLOCK_BYTES, size - number)]
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _sha256sum(path: Path) -> float:
    begun = time.monotonic()
    subprocess.run(["sha256sum", str(path)], check=True, stdout=subprocess.DEVNULL)  # noqa: S603, S607 - the yardstick
    return time.monotonic() - begun


def _hashlib(path: Path) -> float:
    """Python's own: OpenSSL's, which uses instructions that coreutils may not."""
    begun = time.monotonic()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return time.monotonic() - begun


def _inboxd(running: Running, source: Path) -> float:
    """Return the seconds from the drop to done/; the file is then put back."""
    with Arrivals(running.path("done")) as arrivals:
        begun = time.monotonic()
        source.rename(running.path("inbox", NAME))
        ended = arrivals.wait_for(NAME.encode(), WAIT_SECONDS)
    if ended is None:
        raise NotRunning(f"the file was not filed within {WAIT_SECONDS:.0f} s")
    running.path("done", NAME).rename(source)
    return ended - begun
