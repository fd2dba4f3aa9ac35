"""Celery's Redis transport without two of Kombu's weaknesses: values of the wrong type, and failed acknowledgements.

Kombu 5.7 counts a message as unacknowledged for as long as its connection lives if the command that acknowledges it fails, and
Celery only logs that error: two such failures while Redis hangs make a worker with two slots deaf. Here it no longer counts.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, cast

import kombu.transport
import redis
from kombu.transport.redis import Channel, PrefixedRedisPubSub, QoS, Transport

from inboxd.broker.forgiving import ForgivingRedis


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


class SteadyClient(ForgivingRedis):
    """The client of a channel; Kombu's own puts its ``global_keyprefix`` before the keys of some commands only."""

    def __init__(self, *args: Any, key_prefix: str = "", **options: Any) -> None:  # noqa: ANN401 - redis-py's own signature
        super().__init__(*args, **options)
        self.key_prefix = key_prefix
        self._prefix_args = self.with_prefix  # what Kombu calls for a command that it sends by itself

    def pubsub(self, **options: Any) -> Any:  # noqa: ANN401 - redis-py's own signature
        """Return a subscriber to channels of the namespace."""
        return PrefixedRedisPubSub(self.connection_pool, global_keyprefix=self.key_prefix, **options)


class SteadyChannel(Channel):
    """Kombu's channel, whose client removes values of the wrong type, and puts the namespace before every key."""

    QoS = SteadyQoS

    global_keyprefix: str
    keyprefix_binding_deadlines: str
    pool: redis.ConnectionPool
    _kept_client: redis.Redis | None = None

    @property
    def _script_binding_deadlines(self) -> str:
        return self.keyprefix_binding_deadlines  # Kombu adds the prefix, for a client that leaves it out

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401 - kombu's own signature
        """Return a client. Kombu asks for one for each command, and making it takes longer than most: keep that of the pool."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]  # missing in the stubs
        if self._kept_client is None or self._kept_client.connection_pool is not self.pool:  # a fork drops its parent's pool
            self._kept_client = super()._create_client()  # type: ignore[misc]
        return self._kept_client

    def _get_client(self) -> Any:  # noqa: ANN401 - kombu's own signature
        super()._get_client()  # type: ignore[misc]  # missing in the stubs; checks redis-py's version
        return functools.partial(SteadyClient, key_prefix=self.global_keyprefix)


def use_channel(channel: type[SteadyChannel], *, is_default: bool = False) -> None:
    """Use a class for every channel on redis:// and rediss:// connections that this process makes from now on.

    A default does not replace what was set before.
    """

    class SteadyTransport(Transport):
        Channel = channel

    aliases = cast("dict[str, Any]", kombu.transport.TRANSPORT_ALIASES)
    for scheme in ("redis", "rediss"):
        if not is_default or isinstance(aliases[scheme], str):
            aliases[scheme] = lambda: SteadyTransport
