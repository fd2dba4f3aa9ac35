"""Server-sent events: a line whenever the page may look different, so that the browser loads it again."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from inboxd.console.web.site import Site

TICK_SECONDS = 0.5
PING_SECONDS = 15.0
"""Interval of comments, by which a connection that has ended is noticed, also by a reverse proxy."""
LIFETIME_SECONDS = 3600.0
"""A stream's longest time; the browser then connects, and is identified, again."""
STREAMS_MAX = 64


def event_route(site: Site) -> Callable[[Request], Awaitable[Response]]:
    """Return the route of the stream."""
    streams = 0

    async def endpoint(_request: Request) -> Response:
        if streams >= STREAMS_MAX:
            raise HTTPException(503, "too many pages are open")
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(counted(), media_type="text/event-stream", headers=headers)

    async def counted() -> AsyncIterator[str]:
        nonlocal streams
        streams += 1
        try:
            async for text in stream_changes(site):
                yield text
        finally:
            streams -= 1

    return endpoint


async def stream_changes(site: Site) -> AsyncIterator[str]:
    """Yield an event at each change, and comments in between, until the server stops."""
    began = pinged = time.monotonic()
    known = site.version
    yield "retry: 3000\nevent: hello\ndata: 0\n\n"
    while not site.is_stopping() and (now := time.monotonic()) - began < LIFETIME_SECONDS:
        if (version := site.version) != known:
            known, pinged = version, now
            yield f"event: change\ndata: {'.'.join(map(str, version))}\n\n"
        elif now - pinged > PING_SECONDS:
            pinged = now
            yield ": still here\n\n"
        await asyncio.sleep(TICK_SECONDS)
