"""Celery's Redis transport, with an ear at the pipe: what comes out of the queues is screened, and noticed.

Redis-py lets a client's answers to a command pass through a callback. Kombu takes its messages by BRPOP, whose answer is None
when none came in time; so a message that a callback turns into None was never there. A test holds both libraries to that.
"""

from collections.abc import Callable
from typing import Any, cast

import kombu.transport
from kombu.transport.redis import Channel, Transport
from kombu.utils.encoding import bytes_to_str

Accept = Callable[[str, bytes], bool]
"""Given a queue's name and a message, tells whether the worker may have it."""


def install_filter(accepts: Accept, on_reply: Callable[[], None]) -> None:
    """Have all connections to redis:// and rediss:// made by this process screened.

    ``heard`` is called at each answer to a BRPOP, also at an empty one.
    """

    class ScreeningChannel(Channel):
        def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401 - kombu's own signature
            client: Any = super()._create_client(asynchronous)  # type: ignore[misc]  # the stubs do not know it
            if asynchronous:
                client.set_response_callback("BRPOP", self._answered)
            return client

        def _answered(self, answer: Any, **_options: object) -> Any:  # noqa: ANN401 - as redis-py hands it over
            on_reply()
            if not answer:
                return None
            queue, raw = answer
            name = bytes_to_str(queue).rsplit(self.sep, 1)[0]
            return answer if accepts(name, raw) else None

    class ScreeningTransport(Transport):
        Channel = ScreeningChannel

    aliases = cast("dict[str, Any]", kombu.transport.TRANSPORT_ALIASES)
    for scheme in ("redis", "rediss"):
        aliases[scheme] = lambda: ScreeningTransport
