"""A worker's transport: filters what it receives before Kombu sees it, and records that replies arrive.

Redis-py passes the replies to a command through a callback. Kombu receives messages by BRPOP, whose reply is None after a
timeout; so Kombu never sees a message that the callback replaces by None. A test checks that both libraries work this way.
"""

from collections.abc import Callable
from typing import Any

from kombu.utils.encoding import bytes_to_str

from inboxd.messaging.transport import SteadyChannel, use_channel

Accept = Callable[[str, bytes], bool]
"""Returns whether the worker may have a message, given the queue's name and the raw message."""


def install_filter(accepts: Accept, accepts_broadcast: Callable[[bytes], bool], on_reply: Callable[[], None]) -> None:
    """Filter messages and broadcasts on every connection that this process makes from now on.

    ``on_reply`` is called at each reply to a BRPOP, also at an empty one.
    """

    class FilteringChannel(SteadyChannel):
        def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401 - kombu's own signature
            client: Any = super()._create_client(asynchronous)
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

        def _handle_message(self, client: Any, reply: Any) -> Any:  # noqa: ANN401 - kombu's own signature
            """Return what was published, without its content if that is not acceptable: Kombu then ignores it."""
            event = super()._handle_message(client, reply)  # type: ignore[misc]  # missing in the stubs
            content = event["data"]
            is_message = bytes_to_str(event["type"]).endswith("message")
            if is_message and isinstance(content, bytes) and not accepts_broadcast(content):
                event["data"] = None
            return event

    use_channel(FilteringChannel)
