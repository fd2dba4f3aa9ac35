"""A slow handler on eight workers: a burst of forty files must keep all busy, even before the handler's rate is known."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measure import trials
from bench.measure.figures import ratio
from bench.peers.running import Running
from bench.report.limits import LimitCheck
from bench.scale.instance import run_inboxd
from bench.scale.slow import RECORD, SECONDS

WORKERS = 8
FILES = 40
BURSTS = 4
Span = tuple[float, float]


def run(folder: Path, _arguments: argparse.Namespace) -> list[LimitCheck]:
    """Drop the burst several times; before the first burst the handler has been called only once."""
    shares, peaks = [], []
    with run_inboxd(folder, work={"concurrency": WORKERS}, defaults={"handler": "bench.scale.slow:handle"}) as running:
        for number in range(BURSTS):
            burst = trials.burst(running, FILES, f"burst{number}-")
            calls = _calls(running, f"burst{number}-")
            spans = [(call["begun"], call["ended"]) for call in calls]
            per_worker = sorted(Counter(call["pid"] for call in calls).values())
            shares.append(busy_share(spans, WORKERS))
            peaks.append(max_concurrency(spans))
            print(
                f"  {peaks[-1]} concurrent calls, {shares[-1]:.0%} busy, {burst.seconds:.2f} s; calls per worker: {per_worker}",
                flush=True,
            )
    ideal = FILES * SECONDS / WORKERS
    print(f"  minimum possible: {ideal:.2f} s")
    return [
        LimitCheck("concurrent handler calls, lowest burst", min(peaks), WORKERS, is_minimum=True),
        LimitCheck("share of time that workers were busy, lowest burst", min(shares), 0.8, is_minimum=True),
    ]


def _calls(running: Running, prefix: str) -> list[dict[str, Any]]:
    calls = [json.loads(line) for line in (running.root / RECORD).read_text("utf-8").splitlines()]
    return [call for call in calls if call["file"].startswith(prefix)]


def busy_share(spans: Sequence[Span], workers: int) -> float:
    """Return the share of the workers' total time, from the first begin to the last end, that the spans cover."""
    whole = max(ended for _, ended in spans) - min(begun for begun, _ in spans)
    return ratio(sum(ended - begun for begun, ended in spans), workers * whole)


def max_concurrency(spans: Sequence[Span]) -> int:
    """Return the largest number of spans that overlap."""
    changes = sorted([(begun, 1) for begun, _ in spans] + [(ended, -1) for _, ended in spans])
    highest = current = 0
    for _, change in changes:
        current += change
        highest = max(highest, current)
    return highest
