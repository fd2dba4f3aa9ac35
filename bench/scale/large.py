"""One large file: the rate of hashing and filing compared with sha256sum, and the memory of watcher and worker."""

import argparse
import hashlib
import subprocess
import time
from pathlib import Path

from bench.measure import processes, trials
from bench.measure.arrivals import Arrivals
from bench.measure.figures import median, ratio
from bench.peers.running import NotRunning, Running
from bench.report.limits import LimitCheck
from bench.scale.instance import MIB, run_inboxd

NAME = "large.bin"
BLOCK_BYTES = 16 * MIB
WAIT_SECONDS = 600.0
GROWTH_MIB_MAX = 16.0
"""Maximum growth of a process's resident memory: room for buffers of a few MiB, not for the file."""

WARM_FILES = 300


def run(folder: Path, arguments: argparse.Namespace) -> list[LimitCheck]:
    """Hash the same file with sha256sum, hashlib and inboxd in turn."""
    source = folder / NAME
    folder.mkdir()
    digest = write(source, arguments.gigabytes * 10**9)
    coreutils_times, hashlib_times, inboxd_times = [], [], []
    with run_inboxd(folder / "run") as running:
        trials.burst(running, WARM_FILES, "warm")
        before = {pid: processes.rss_bytes(pid) for pid in running.tree()}
        for pid in before:
            processes.reset_peak(pid)
        for _ in range(arguments.repeats):
            coreutils_times.append(_time_sha256sum(source))
            hashlib_times.append(_time_hashlib(source))
            inboxd_times.append(_time_inboxd(running, source))
        growth = {pid: (processes.peak_rss_bytes(pid) - resident) / MIB for pid, resident in before.items()}
        is_logged = digest in (running.folder / "inboxd.log").read_text("utf-8")
    size = source.stat().st_size
    for name, times in (("sha256sum", coreutils_times), ("hashlib", hashlib_times), ("inboxd", inboxd_times)):
        print(f"  {name}: {', '.join(f'{size / seconds / 1e6:,.0f}' for seconds in times)} MB/s", flush=True)
    rates = [ratio(median(times), median(inboxd_times)) for times in (coreutils_times, hashlib_times)]
    return [
        LimitCheck("a large file's rate, share of sha256sum's", rates[0], 0.8, is_minimum=True),
        LimitCheck("… and of hashlib's", rates[1], 0.8, is_minimum=True),
        LimitCheck("the right hash in the log", float(is_logged), 1, is_minimum=True),
        LimitCheck("growth of any process's memory, MiB", max(growth.values()), GROWTH_MIB_MAX, is_minimum=False),
    ]


def write(path: Path, size: int) -> str:
    """Write a file of ``size`` bytes, each block different, and return its SHA-256 in hex."""
    body = hashlib.shake_256(b"block").digest(BLOCK_BYTES)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(0, size, BLOCK_BYTES):
            block = (b"%016d" % number + body)[: min(BLOCK_BYTES, size - number)]
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _time_sha256sum(path: Path) -> float:
    begun = time.monotonic()
    subprocess.run(["sha256sum", str(path)], check=True, stdout=subprocess.DEVNULL)  # noqa: S603, S607 - the reference
    return time.monotonic() - begun


def _time_hashlib(path: Path) -> float:
    """Return the seconds for hashlib, whose OpenSSL may use instructions that coreutils does not."""
    begun = time.monotonic()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return time.monotonic() - begun


def _time_inboxd(running: Running, source: Path) -> float:
    """Return the seconds from the drop to done/, and move the file back. Raises NotRunning."""
    with Arrivals(running.path("done")) as arrivals:
        begun = time.monotonic()
        source.rename(running.path("inbox", NAME))
        ended = arrivals.wait_for(NAME.encode(), WAIT_SECONDS)
    if ended is None:
        raise NotRunning(f"the file was not filed within {WAIT_SECONDS:.0f} s")
    running.path("done", NAME).rename(source)
    return ended - begun
