"""`inboxd status --watch`: show the status again and again, until Ctrl-C."""

import contextlib
import json
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from inboxd.console.output import echo
from inboxd.console.status import table
from inboxd.console.status.snapshot import Status

INTERVAL_SECONDS = 1.0


def watch_status(take: Callable[[], Status]) -> None:
    """Show the status on the whole terminal, each second, or as long as it takes to read it."""
    console = Console()
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            begin = time.monotonic()
            live.update(table.render(take(), live.console.width), refresh=True)
            _rest(begin)


def watch_as_json(take: Callable[[], Status]) -> None:
    """Print the status each second, an object on each line."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            begin = time.monotonic()
            echo(json.dumps(table.to_json(take())))
            _rest(begin)


def _rest(begin: float) -> None:
    time.sleep(max(0.0, begin + INTERVAL_SECONDS - time.monotonic()))
