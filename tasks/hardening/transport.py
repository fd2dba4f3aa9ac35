"""Celery's Redis transport with a hook on each BRPOP reply, which filters messages and records that replies arrive.

Redis-py passes the replies to a command through a callback. Kombu receives messages by BRPOP, whose reply is None after a
timeout; so Kombu never sees a message that the callback replaces by None. A test checks that both libraries work this way.

Kombu 5.7 counts a message as unacknowledged for as long as its connection lives if the command that acknowledges it fails, and
Celery only logs that error: two such failures while Redis hangs make a worker with two slots deaf. Here it no longer counts.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import kombu.transport
from kombu.transport.redis import Channel, QoS, Transport
from kombu.utils.encoding import bytes_to_str

Accept = Callable[[str, bytes], bool]
"""Returns whether the worker may have a message, given the queue's name and the raw message."""


class SteadyQoS(QoS):
    """Kombu's record of unacknowledged messages, in which a failed acknowledgement occupies no slot."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message. If Redis fails, it delivers the message again later, and the worker ignores the duplicate."""
        with self._freed_on_error(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject a message; with ``requeue``, return it to its queue."""
        with self._freed_on_error(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)

    @contextlib.contextmanager
    def _freed_on_error(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            super(QoS, self).ack(delivery_tag)  # the record only
            raise


def install_filter(accepts: Accept, on_reply: Callable[[], None]) -> None:
    """Filter the messages on every redis:// and rediss:// connection that this process makes from now on.

    ``on_reply`` is called at each reply to a BRPOP, also at an empty one.
    """

    class FilteringChannel(Channel):
        QoS = SteadyQoS

        def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401 - kombu's own signature
            client: Any = super()._create_client(asynchronous)  # type: ignore[misc]  # missing in the stubs
            if asynchronous:
                client.set_response_callback("BRPOP", self._filter_reply)
            return client

        def _filter_reply(self, reply: Any, **_options: object) -> Any:  # noqa: ANN401 - redis-py's own type
            on_reply()
            if not reply:
                return None
            queue, raw = reply
            name = bytes_to_str(queue).rsplit(self.sep, 1)[0]
            return reply if accepts(name, raw) else None

    class FilteringTransport(Transport):
        Channel = FilteringChannel

    aliases = cast("dict[str, Any]", kombu.transport.TRANSPORT_ALIASES)
    for scheme in ("redis", "rediss"):
        aliases[scheme] = lambda: FilteringTransport
