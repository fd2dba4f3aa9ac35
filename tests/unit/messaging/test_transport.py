"""What the transport mends in Kombu: messages whose acknowledgement failed, and a client for each command."""

from types import SimpleNamespace
from typing import Any, Self

import pytest
import redis
from kombu.transport.redis import QoS

from inboxd.messaging.transport import SteadyChannel, SteadyQoS


class _HungRedis:
    """Accepts what is delivered; every acknowledgement times out."""

    def pipeline(self) -> "_HungRedis":
        return self

    def zadd(self, *_: object) -> "_HungRedis":
        return self

    hset = zadd

    def zrem(self, *_: object) -> "_HungRedis":
        raise redis.TimeoutError("Timeout reading from socket")

    def execute(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _with_two_failed_acks(kind: type[QoS]) -> QoS:
    server = _HungRedis()
    channel = SimpleNamespace(
        conn_or_acquire=lambda _client: server, unacked_key="unacked", unacked_index_key="index", do_restore=False
    )
    qos = kind(channel, prefetch_count=2)
    for tag in ("first", "second"):
        qos.append(SimpleNamespace(delivery_info={"exchange": "", "routing_key": "celery"}, _raw={}), tag)
    for tag in ("first", "second"):
        with pytest.raises(redis.TimeoutError):
            qos.ack(tag)
    return qos


def test_kombu_still_counts_messages_whose_acknowledgement_failed() -> None:
    assert not _with_two_failed_acks(QoS).can_consume()


def test_a_failed_acknowledgement_occupies_no_slot() -> None:
    assert _with_two_failed_acks(SteadyQoS).can_consume()


def test_a_channel_keeps_the_client_of_its_pool_until_a_fork_drops_the_pool() -> None:
    channel: Any = SteadyChannel.__new__(SteadyChannel)
    pool, pool_after_a_fork = redis.ConnectionPool(), redis.ConnectionPool()
    clients = []

    for current in (pool, pool, pool_after_a_fork):
        vars(channel).update(Client=redis.Redis, _pool=current)
        with channel.conn_or_acquire() as client:
            clients.append(client)

    assert clients[0] is clients[1]
    assert [client.connection_pool for client in clients] == [pool, pool, pool_after_a_fork]
