"""All peers, each started as its own documentation says, with as many worker processes as cores where it has a choice."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from bench.peers.peer import NODE, PYTHON, Command, Peer, Place

PROCESSES = str(os.cpu_count())
SLOTS = "50"
"""Concurrent jobs in BullMQ's single process, as in its documentation; a second process is no faster on two cores."""

HANDLERS = {"sha256": "bench.peers.inboxd.handler:digest", "describe": "inboxd.handlers:describe"}


def _python(module: str, *worker: str) -> Callable[[Place], Sequence[Command]]:
    def commands(_place: Place) -> Sequence[Command]:
        return (
            Command("watcher", (str(PYTHON), "-m", f"bench.peers.{module}.watch")),
            Command("worker", (str(PYTHON), "-m", *worker)),
        )

    return commands


def _rq(place: Place) -> Sequence[Command]:
    """Return RQ's commands with SimpleWorker: the default worker forks for each job, which takes about three times as long."""
    pool = (str(PYTHON.with_name("rq")), "worker-pool", "-w", "rq.SimpleWorker", "-n", PROCESSES, "--url", place.url)
    return (Command("watcher", (str(PYTHON), "-m", "bench.peers.with_rq.watch")), Command("worker", pool))


def _bullmq(_place: Place) -> Sequence[Command]:
    return (
        Command("watcher", ("node", str(NODE / "watch.mjs"))),
        Command("worker", ("node", str(NODE / "work.mjs")), {"BENCH_CONCURRENCY": SLOTS}),
    )


def _floor(_place: Place) -> Sequence[Command]:
    python = (sys.executable, "-m")
    return (
        Command("watcher", (*python, "bench.peers.floor.watch")),
        Command("worker", (*python, "bench.peers.floor.work")),
    )


def _inboxd(place: Place, handler: str, settle: float | None = 0.0) -> Sequence[Command]:
    """Write settings, and return the `inboxd up` command, which uses the running server instead of starting one."""
    file = place.root.parent / "settings.toml"
    lines = (
        f"redis.url = {json.dumps(place.url)}",
        *([] if settle is None else [f"defaults.settle_seconds = {settle}"]),
        f"defaults.handler = {json.dumps(HANDLERS[handler])}",
        f"inbox.drop.root = {json.dumps(str(place.root))}",
    )
    file.write_text("\n".join([*lines, ""]), "utf-8")
    return (Command("inboxd", (sys.executable, "-m", "inboxd", "up", "--settings", str(file))),)


ALL: Sequence[Peer] = (
    Peer(
        "celery",
        "plain Celery",
        "python",
        _python(
            "with_celery",
            "celery",
            "-A",
            "bench.peers.with_celery.tasks",
            "worker",
            "--loglevel=INFO",
            "--concurrency",
            PROCESSES,
        ),
    ),
    Peer("rq", "RQ", "python", _rq),
    Peer("dramatiq", "dramatiq", "python", _python("with_dramatiq", "dramatiq", "bench.peers.with_dramatiq.tasks")),
    Peer(
        "huey",
        "huey",
        "python",
        _python("with_huey", "huey.bin.huey_consumer", "bench.peers.with_huey.tasks.huey", "-k", "process", "-w", PROCESSES),
    ),
    Peer("bullmq", "chokidar + BullMQ", "node", _bullmq),
    Peer("floor", "bare floor", "", _floor),
    Peer("inboxd", "inboxd", "", partial(_inboxd, handler="sha256")),
    Peer("inboxd-settle", "inboxd, default settle", "", partial(_inboxd, handler="sha256", settle=None)),
    Peer("inboxd-describe", "inboxd, default handler", "", partial(_inboxd, handler="describe")),
)
"""All peers in the table's order. The last one does more work than the others: its handler also detects the content type."""

BY_NAME = {peer.name: peer for peer in ALL}
BY_DEFAULT = tuple(peer.name for peer in ALL[:-1])
