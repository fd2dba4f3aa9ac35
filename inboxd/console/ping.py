"""Check whether the broker answers, and if not, why."""

from dataclasses import dataclass

import redis

from inboxd.broker.connection import make_client, translate_redis_errors
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable, Finding, SettingsError


@dataclass(frozen=True, slots=True)
class PingResult:
    """The result of a PING: why the broker is unavailable, or ""; ``is_loading`` while the server loads its dataset."""

    error: str = ""
    is_loading: bool = False

    def __bool__(self) -> bool:
        return not self.error


def ping_broker(settings: Settings) -> PingResult:
    """Send one PING, and return within the settings' timeouts. Raises SettingsError for an invalid URL."""
    try:
        with make_client(settings) as client, translate_redis_errors():
            client.ping()
    except BrokerUnavailable as error:
        return PingResult(str(error), is_loading=isinstance(error.__cause__, redis.BusyLoadingError))
    except (ValueError, TypeError) as error:  # redis-py: not a URL, or a query with an unknown connection option
        remedy = "write it as redis://, rediss:// or unix://, or leave it empty"
        raise SettingsError([Finding("redis.url", f"is not a valid URL: {error}", remedy)]) from None
    return PingResult()
