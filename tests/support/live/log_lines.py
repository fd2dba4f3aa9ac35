"""Log lines as inboxd writes them, single or as a long log of many files, for tests and benches of the log readers."""

import hashlib
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

MODULES = {
    "file_claimed": ("watcher", "inboxd.intake.intake"),
    "file_handled": ("worker", "inboxd.tasks.processing.handler_runs"),
    "file_retried": ("worker", "inboxd.tasks.processing.process_parcel"),
    "file_done": ("worker", "inboxd.tasks.outcomes.apply"),
    "file_failed": ("worker", "inboxd.spool.failing"),
    "file_refused": ("watcher", "inboxd.spool.failing"),
    "file_released": ("watcher", "inboxd.spool.failing"),
    "file_missing": ("worker", "inboxd.tasks.outcomes.apply"),
    "file_denied": ("watcher", "inboxd.intake.ready_files"),
    "file_expired": ("worker", "inboxd.tasks.sweeps.expired"),
    "folder_pruned": ("watcher", "inboxd.intake.ready_files"),
    "parcel_republished": ("worker", "inboxd.tasks.outcomes.apply"),
    "parcel_split": ("worker", "inboxd.tasks.outcomes.apply"),
    "parcel_crashed": ("worker", "inboxd.tasks.outcomes.apply"),
    "parcel_recovered": ("worker", "inboxd.tasks.sweeps.repair"),
    "sweep_done": ("worker", "inboxd.tasks.sweeps.stale"),
}
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
RAISING_SHARE = 0.01
"""Share of a long log's files whose handler raises once: they are split off or retried."""
PARCEL_FILES_MAX = 12
ERROR = "ConnectionError: the archive is unavailable"
WARNINGS = ("file_failed", "file_refused", "parcel_crashed", "file_missing", "file_denied")


def table(event: str, at: float, **keys: object) -> dict[str, Any]:
    """Return a line's keys and values; ``at`` is its time in unix seconds."""
    program, module = MODULES[event]
    stamp = datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    level = "warning" if event in WARNINGS else "info"
    first = {"timestamp": stamp, "level": level, "program": program, "event": event, "module": module}
    return {**first, **({} if event == "sweep_done" else {"inbox": "drop"}), **keys}


def line(event: str, at: float, **keys: object) -> bytes:
    """Return a line as bytes, with a line feed."""
    return json.dumps(table(event, at, **keys)).encode() + b"\n"


def parcel(number: int, at: float) -> str:
    """Return the id of parcel ``number``, made at ``at`` (unix seconds)."""
    return f"{int(at * 1000):012x}{number:016x}"


def long_log(files: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Yield the lines of ``files`` files, just over three per file, in parcels of one or more; some handlers raise once.

    Every file's name is ``YEAR/customer NNN/invoice NUMBER.pdf``.
    """
    dice = random.Random(seed)
    at, number, parcels = NOON, 0, 0
    while number < files:
        count = 1 if dice.random() < 0.5 else dice.randint(2, PARCEL_FILES_MAX)
        names = [f"2026/customer {n % 997:03d}/invoice {n:07d}.pdf" for n in range(number, min(number + count, files))]
        number, parcels, at = number + len(names), parcels + 1, at + dice.random() * 0.2
        yield from _parcel_lines(dice, names, parcel(parcels, at), parcel(files + parcels, at + 0.1), at)


def _parcel_lines(dice: random.Random, names: list[str], first: str, second: str, at: float) -> Iterator[dict[str, Any]]:
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    for name, digest in zip(names, digests, strict=True):
        keys = {"size": dice.randint(100, 30_000), "sha256": digest, "file_id": digest[:32], "found_by": "event"}
        yield table("file_claimed", at, file=name, parcel=first, **keys)
    raising = names[0] if dice.random() < RAISING_SHARE * len(names) else None
    for name, digest in zip(names, digests, strict=True):
        at += 0.003
        answer: dict[str, Any] = {"result": {"sha256": digest, "size": 4096, "content_type": "application/pdf"}}
        if name == raising:
            answer = {"raised": ERROR}
        yield table("file_handled", at, file=name, parcel=first, attempt=1, took_ms=0.6, **answer)
    for name in names:
        if name != raising:
            yield table("file_done", at + 0.01, file=name, parcel=first, attempt=1, filed=name, took_ms=47.2)
    if raising is None:
        return
    parcel_id = second if len(names) > 1 else first
    if len(names) > 1:
        yield table("parcel_split", at + 0.011, file=raising, parcel=parcel_id, out_of=first, why=ERROR)
        yield table("parcel_republished", at + 0.012, parcel=parcel_id, files=1)
    else:
        yield table("file_retried", at + 0.011, file=raising, parcel=parcel_id, retry=1, of=3, in_seconds=2.0)
    yield table("file_handled", at + 2, file=raising, parcel=parcel_id, attempt=2, took_ms=0.7, result="booked")
    yield table("file_done", at + 2.01, file=raising, parcel=parcel_id, attempt=2, filed=raising, took_ms=2050.3)
