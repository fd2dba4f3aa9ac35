"""Turns: one sweep of a kind at an inbox at a time, for one that hangs on a dead mount must not draw every worker after it."""

import contextlib
from collections.abc import Iterator

from spool import lua
from spool.broker import weather
from spool.errors import BrokerAway
from tasks.owner import Life, life, token
from tasks.workshop import Workshop

KEY = "inboxd:sweep:"
TURN_SECONDS = 120

_left: set[tuple[str, str]] = set()
"""This process's turns that it could not give back, because Redis was away: it does so before its next one."""


@contextlib.contextmanager
def turn(workshop: Workshop, sweep: str, inbox: str) -> Iterator[bool]:
    """Take a turn, and give it back; yields whether it is ours.

    A dead process's turn is over, a living one's after TURN_SECONDS. Raises BrokerAway.
    """
    key, mine = f"{KEY}{sweep}:{workshop.host}:{inbox}", token(workshop.host)
    _give_back(workshop, *_left)
    ours = True  # until we know better: a SET whose answer was lost may have been done
    try:
        ours = _take(workshop, key, mine)
        yield ours
    finally:
        if ours:
            _left.add((key, mine))
            with contextlib.suppress(BrokerAway):
                _give_back(workshop, (key, mine))


def _take(workshop: Workshop, key: str, mine: str) -> bool:
    with weather():
        if workshop.client.set(key, mine, nx=True, ex=TURN_SECONDS):
            return True
        holder = workshop.client.get(key)
        if isinstance(holder, bytes) and life(holder.decode()) is Life.DEAD:
            _delete(workshop, key, holder.decode())
            workshop.client.set(key, mine, nx=True, ex=TURN_SECONDS)
            holder = workshop.client.get(key)
        return holder == mine.encode()  # the first try's answer was lost, the second found its own


def _give_back(workshop: Workshop, *turns: tuple[str, str]) -> None:
    for key, mine in turns:
        with weather():
            _delete(workshop, key, mine)
        _left.discard((key, mine))


def _delete(workshop: Workshop, key: str, holder: str) -> None:
    """Delete a turn, if it still is this holder's."""
    workshop.client.eval(lua.DELETE_OWN, 1, key, holder)
