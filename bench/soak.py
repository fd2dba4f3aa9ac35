"""Soak test: drop files at a constant rate for an hour with default settings, and sample each process's memory and open files.

Run `make soak`, or with options: `make soak ARGS="--minutes 30 --rate 50"`. The exit code is 1 if a process has over 10 % more
memory at the end than after five minutes, or more open files, or if a file was lost.

Two settings are not the defaults. Redis keeps a filed parcel's lease for three minutes instead of two hours, so that its memory
is stable when it is first compared; this requires shorter limits for handlers and retries. And the worker's children are never
replaced, so that leaks show.
"""

import argparse
import hashlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.live.stand import Stand

from inboxd.config.rules import Rules
from inboxd.config.tables import Log, Redis, Sweep, Work

WARM_SECONDS = 300.0
"""Age of a process at which its memory becomes the baseline: all code has run once."""

VISIBILITY_SECONDS, TIME_LIMIT_SECONDS = 90, 60
"""A filed parcel's lease lives twice the visibility timeout, which must exceed the limit for a handler or a retry."""

SAMPLE_SECONDS = 30.0
COMPARED_SECONDS = 120.0
SHOWN_SECONDS = 600.0
SETTLED_SECONDS = 90.0
GROWTH_MAX = 1.10
OPEN_FILES_GROWTH_MAX = 2
"""A pool opens another connection when two threads use Redis at once; a leak would be hundreds of files in an hour."""

SEED = 1
SMALL, REFERENCE, LARGE = (10, 1000, 5000), (50_000,), (1_000_000,)


@dataclass(frozen=True)
class Sample:
    """A process's resident memory and open files at a time, in seconds since the start of the soak."""

    at: float
    kib: int
    files: int


@dataclass
class ProcessHistory:
    """A process's samples. ``warm_at`` is the time from which the process must not grow."""

    name: str
    pid: int
    warm_at: float
    samples: list[Sample] = field(default_factory=list)

    def problem(self) -> str:
        """Return a message if the process has grown, else "". Two minutes are compared with two, since the figures vary."""
        first = [sample for sample in self.samples if self.warm_at <= sample.at < self.warm_at + COMPARED_SECONDS]
        last = [sample for sample in self.samples if sample.at > self.samples[-1].at - COMPARED_SECONDS]
        if not first:
            return ""
        kib, kib_now = (statistics.median(sample.kib for sample in samples) for samples in (first, last))
        files, files_now = (max(sample.files for sample in samples) for samples in (first, last))
        if kib_now > kib * GROWTH_MAX:
            return f"{self.name} ({self.pid}): memory grew from {kib:.0f} to {kib_now:.0f} KiB"
        if files_now > files + OPEN_FILES_GROWTH_MAX:
            return f"{self.name} ({self.pid}): open files grew from {files} to {files_now}"
        return ""


def sample_process(pid: int, at: float) -> Sample | None:
    """Return a process's resident memory and lowest number of open files, that of an idle moment; None if it has exited."""
    counts, sizes = [], []
    try:
        for _ in range(15):
            sizes.append(_resident_kib(pid))
            counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
            time.sleep(0.01)
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return None
    return Sample(at, int(statistics.median(sizes)), min(counts))


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


class Soak:
    """One run on one stand."""

    def __init__(self, stand: Stand, seconds: float, rate: float) -> None:
        self.stand = stand
        self.dropped: dict[bytes, str] = {}
        self.histories: list[ProcessHistory] = []
        self._seconds = seconds
        self._rate = rate
        self._random = random.Random(SEED)  # noqa: S311 - a soak is repeatable
        self._begun = 0.0

    def run(self) -> float:
        """Drop files and sample all processes; return the seconds from the last drop until all files were filed."""
        self.stand.start()
        self._begun = time.monotonic()
        self._sample()
        sampled = shown = 0.0
        while (now := self._now()) < self._seconds:
            while len(self.dropped) < now * self._rate:
                self._drop()
            if now >= sampled + SAMPLE_SECONDS:
                self._sample()
                sampled = now
            if now >= shown + SHOWN_SECONDS:
                shown = now
                print(f"{now / 60:5.1f} min, {len(self.dropped)} files dropped", flush=True)
            time.sleep(0.02)
        self._sample()
        ended = time.monotonic()
        while time.monotonic() < ended + SETTLED_SECONDS and not self.stand.has_no_pending_files():
            time.sleep(0.1)
        return time.monotonic() - ended

    def _now(self) -> float:
        return time.monotonic() - self._begun

    def _drop(self) -> None:
        number = len(self.dropped)
        name = b"%s%d.bin" % (self._random.choice([b"", b"", b"sub/"]), number)
        (sizes,) = self._random.choices([SMALL, REFERENCE, LARGE], [90, 9, 1])
        content = b"file %d\n" % number + self._random.randbytes(self._random.choice(sizes))
        self.stand.drop(name, content)
        self.dropped[name] = hashlib.sha256(content).hexdigest()

    def _sample(self) -> None:
        by_pid = {history.pid: history for history in self.histories}
        at = self._now()
        for name, pid in self._processes():
            if (sample := sample_process(pid, at)) is None:
                continue
            if pid not in by_pid:
                by_pid[pid] = ProcessHistory(name, pid, at + WARM_SECONDS)
                self.histories.append(by_pid[pid])
            by_pid[pid].samples.append(sample)

    def _processes(self) -> Iterator[tuple[str, int]]:
        stand = self.stand
        yield "watcher", stand.watcher.pid
        yield "worker", stand.worker.pid
        for pid in Path(f"/proc/{stand.worker.pid}/task/{stand.worker.pid}/children").read_text("ascii").split():
            yield "worker's child", int(pid)
        yield "beat", stand.beat.pid
        yield "server", stand.redis.pid


def table(soak: Soak) -> Iterator[str]:
    """Yield a Markdown table: each process's memory and open files at the start, after five minutes, and every ten minutes."""
    times = [0.0, WARM_SECONDS]
    last = max(sample.at for history in soak.histories for sample in history.samples)
    times += [at for at in (SHOWN_SECONDS * count for count in range(1, 1000)) if at < last - SAMPLE_SECONDS]
    times.append(last)
    yield "| process | " + " | ".join(f"{at / 60:.0f} min" for at in times) + " | |"
    yield "|---|" + "---|" * len(times) + "---|"
    for history in soak.histories:
        cells = [_cell(history, at) for at in times]
        first_at, last_at = history.samples[0].at, history.samples[-1].at
        remark = "" if last_at >= last else f"replaced after {(last_at - first_at) / 60:.0f} min"
        if not remark and first_at > SAMPLE_SECONDS:
            remark = "replaced another process"
        yield f"| {history.name} {history.pid} | " + " | ".join(cells) + f" | {remark} |"


def _cell(history: ProcessHistory, at: float) -> str:
    near = [sample for sample in history.samples if at <= sample.at < at + SAMPLE_SECONDS + 5]
    return f"{near[0].kib / 1024:.1f} MiB, {near[0].files} files" if near else ""


def problems(soak: Soak) -> Iterator[str]:
    """Yield a message for each process that has grown and each kind of wrong file."""
    for history in soak.histories:
        if text := history.problem():
            yield text
    done = soak.stand.tree("done")
    for problem, names in {
        "lost or changed": [name for name, sha in soak.dropped.items() if done.get(name) != sha],
        "in done/ but never dropped": [name for name in done if name not in soak.dropped],
        "in failed/": list(soak.stand.names("failed")),
        "left in inbox/ or claimed/": [*soak.stand.names("inbox"), *soak.stand.names("claimed")],
    }.items():
        if names:
            yield f"{len(names)} files {problem}: {names[:5]}"


def soak_settings() -> dict[str, dict[str, object]]:
    """Return the default settings by table, with a shorter visibility timeout and the limits that it requires."""
    sections = {"redis": Redis(), "work": Work(), "sweep": Sweep(), "log": Log(), "defaults": Rules()}
    tables = {name: section.model_dump(mode="json") for name, section in sections.items()}
    del tables["redis"]["url"]  # the stand's own
    tables["redis"]["visibility_timeout_seconds"] = VISIBILITY_SECONDS
    tables["defaults"] |= {"time_limit_seconds": TIME_LIMIT_SECONDS, "retry_backoff_max_seconds": TIME_LIMIT_SECONDS}
    return tables


def main() -> int:
    """Run a soak and print its table and problems; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0, help="files a second")
    arguments = parser.parse_args()
    print(f"soak: {arguments.minutes:g} min at {arguments.rate:g} files/s", flush=True)
    with tempfile.TemporaryDirectory(prefix="inboxd-soak-") as folder, Stand(Path(folder), **soak_settings()) as stand:
        # without -c 2, the settings' number of children; none is replaced
        stand.worker.argv = [*stand.worker.argv[:-2], "--max-tasks-per-child", "100000000"]
        soak = Soak(stand, arguments.minutes * 60, arguments.rate)
        settled = soak.run()
        found = list(problems(soak))
        for line in table(soak):
            print(line)
        print(f"{len(soak.dropped)} files dropped; all filed {settled:.1f} s after the last drop; {len(found)} problems")
        for line in found:
            print(f"  {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
