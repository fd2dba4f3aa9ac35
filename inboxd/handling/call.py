"""One call of a handler, which may be a coroutine."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from inboxd.messaging.inbox_file import InboxFile

Handler = Callable[[InboxFile], Any]
"""An inbox's handler: takes one open file, and may return a value that msgpack can serialize."""


def call(handler: Handler, file: InboxFile) -> Any:  # noqa: ANN401 - whatever a handler returns
    """Call a handler; run a coroutine to its end. Raises TypeError for a result that shows that nothing was done yet."""
    result = handler(file)
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
        result = asyncio.run(result)
    if inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result) or callable(result):
        if inspect.iscoroutine(result):
            result.close()
        kind = type(result).__name__
        raise TypeError(f"the handler returned a {kind}, which nobody runs: an async handler must be declared with async def")
    return result
