"""A slow handler on eight workers: a burst of forty files is to keep all eight busy, whether its pace is known or not."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measure import trials
from bench.measure.figures import ratio
from bench.peers.running import Running
from bench.report.verdict import Verdict
from bench.scale.slow import RECORD, SECONDS
from bench.scale.started import inboxd

WORKERS = 8
FILES = 40
BURSTS = 4
Span = tuple[float, float]


def run(folder: Path, _arguments: argparse.Namespace) -> list[Verdict]:
    """Drop the burst again and again; the first one meets a handler of which only one call is known."""
    shares, most = [], []
    with inboxd(folder, work={"concurrency": WORKERS}, defaults={"handler": "bench.scale.slow:handle"}) as running:
        for number in range(BURSTS):
            taken = trials.burst(running, FILES, f"burst{number}-")
            calls = _calls(running, f"burst{number}-")
            spans = [(call["begun"], call["ended"]) for call in calls]
            each = sorted(Counter(call["pid"] for call in calls).values())
            shares.append(busy_share(spans, WORKERS))
            most.append(most_at_once(spans))
            print(
                f"  {most[-1]} at once, {shares[-1]:.0%} busy, {taken.seconds:.2f} s in all; calls by worker: {each}",
                flush=True,
            )
    ideal = FILES * SECONDS / WORKERS
    print(f"  the least possible is {ideal:.2f} s")
    return [
        Verdict("handlers at work at once, in every burst", min(most), WORKERS, at_least=True),
        Verdict("share of their time that all workers were busy, worst burst", min(shares), 0.8, at_least=True),
    ]


def _calls(running: Running, prefix: str) -> list[dict[str, Any]]:
    calls = [json.loads(line) for line in (running.root / RECORD).read_text("utf-8").splitlines()]
    return [call for call in calls if call["file"].startswith(prefix)]


def busy_share(spans: Sequence[Span], workers: int) -> float:
    """Return how much of ``workers`` times the whole time was spent at work."""
    whole = max(ended for _, ended in spans) - min(begun for begun, _ in spans)
    return ratio(sum(ended - begun for begun, ended in spans), workers * whole)


def most_at_once(spans: Sequence[Span]) -> int:
    """Return the largest number of spans that share a moment."""
    moments = sorted([(begun, 1) for begun, _ in spans] + [(ended, -1) for _, ended in spans])
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most
