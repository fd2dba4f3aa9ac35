"""Asking the broker whether it answers, and if not, why."""

from dataclasses import dataclass

import redis

from inboxd.broker.connection import make_client, translate_redis_errors
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable, Finding, SettingsError


@dataclass(frozen=True, slots=True)
class PingResult:
    """The broker's answer: ``why`` it is of no use, "" when it is. A server that reads its data in is ``loading``."""

    error: str = ""
    is_loading: bool = False

    def __bool__(self) -> bool:
        return not self.error


def ping_broker(settings: Settings) -> PingResult:
    """Send one PING; returns within the settings' timeouts. Raises SettingsError for a URL that can't be read."""
    try:
        with make_client(settings) as client, translate_redis_errors():
            client.ping()
    except BrokerUnavailable as error:
        return PingResult(str(error), is_loading=isinstance(error.__cause__, redis.BusyLoadingError))
    except (ValueError, TypeError) as error:  # redis-py's: no URL, or a query that names no option of a connection
        remedy = "write it as redis://, rediss:// or unix://, or leave it empty"
        raise SettingsError([Finding("redis.url", f"can't be read: {error}", remedy)]) from None
    return PingResult()
