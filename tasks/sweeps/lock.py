"""Turns: one sweep of a kind at an inbox at a time, for one that hangs on a dead mount must not draw every worker after it."""

import contextlib
from collections.abc import Iterator
from typing import cast

from inboxd.broker import lua
from inboxd.broker.connection import translate_redis_errors
from inboxd.errors import BrokerUnavailable
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.process_identity import Liveness, liveness, process_token

KEY = "inboxd:sweep:"
TURN_SECONDS = 120

_over: set[tuple[str, str]] = set()
"""This process's turns that are over, by key and token: they are given back with the question for the next."""


@contextlib.contextmanager
def turn(context: WorkerContext, sweep: str, inbox: str) -> Iterator[bool]:
    """Take a turn; yields whether it is ours. It is given back with the next one, or by ``give_back``.

    A dead process's turn is over, a living one's after TURN_SECONDS. Raises BrokerAway.
    """
    key, mine = f"{KEY}{sweep}:{context.host}:{inbox}", process_token(context.host)
    ours = True  # until we know better: a question whose answer was lost may have been heard
    try:
        ours = _take(context, key, mine)
        yield ours
    finally:
        if ours:
            _over.add((key, mine))


def give_back(context: WorkerContext) -> None:
    """Give back what is over, after the last turn; while Redis is away, before the next one."""
    with contextlib.suppress(BrokerUnavailable), translate_redis_errors():
        for key, mine in [*_over]:
            context.client.eval(lua.RELEASE_LOCK, 1, key, mine)
            _over.discard((key, mine))


def _take(context: WorkerContext, key: str, mine: str) -> bool:
    holder = _ask(context, key, mine, [*_over])
    if holder != mine and liveness(holder) is Liveness.DEAD:
        holder = _ask(context, key, mine, [(key, holder)])
    return holder == mine


def _ask(context: WorkerContext, key: str, mine: str, over: list[tuple[str, str]]) -> str:
    """Give back turns that are over, and return whose this one is now: ours, if it was nobody's."""
    keys, owners = [key, *(turn for turn, _ in over)], [owner for _, owner in over]
    with translate_redis_errors():
        holder = cast("bytes", context.client.eval(lua.ACQUIRE_LOCK, len(keys), *keys, mine, str(TURN_SECONDS), *owners))
    _over.difference_update(over)
    return holder.decode()
