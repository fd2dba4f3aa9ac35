"""Workers on other hosts, as they show themselves to a watcher through a real Valkey."""

import pytest
import redis

from spool import helpers
from spool.errors import BrokerAway
from spool.helpers import KEY, Helpers


def test_a_worker_on_another_host_is_seen_and_ones_own_is_none(valkey: redis.Redis) -> None:
    watcher, own, other = Helpers(valkey, "here"), Helpers(valkey, "here"), Helpers(valkey, "there")
    own.show()
    watcher.look()
    assert not watcher.elsewhere

    other.show()
    watcher.look()

    assert watcher.elsewhere


def test_who_was_not_heard_of_for_too_long_does_not_count(valkey: redis.Redis) -> None:
    watcher = Helpers(valkey, "here")
    Helpers(valkey, "there").show()
    valkey.zincrby(KEY, -helpers.FRESH_SECONDS * 1000, "there")

    watcher.look()

    assert not watcher.elsewhere
    assert not valkey.exists(KEY)


def test_what_was_seen_counts_until_the_next_look(valkey: redis.Redis) -> None:
    watcher = Helpers(valkey, "here")
    Helpers(valkey, "there").show()
    watcher.look()
    valkey.flushall()

    assert watcher.elsewhere
    watcher.look()
    assert not watcher.elsewhere


def test_an_absent_broker_is_an_error_and_what_was_known_stays() -> None:
    away = Helpers(redis.Redis(unix_socket_path="/nowhere"), "here")

    for ask in (away.look, away.show):
        with pytest.raises(BrokerAway):
            ask()
    assert not away.elsewhere
