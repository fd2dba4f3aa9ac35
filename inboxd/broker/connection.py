"""Where Redis is, and how long it may take: the one place that turns ``redis.*`` settings into connections."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable

SOCKET_PATH_BYTES_MAX = 100
"""A unix socket's path has 108 bytes; the server appends to it while it starts."""


def embedded_socket_path(settings: Settings) -> PurePath:
    """Return the path of the embedded server's socket: in state_dir, or in /tmp when that path is too long for one."""
    socket = settings.state_dir / "valkey" / "valkey.sock"
    if len(bytes(socket)) <= SOCKET_PATH_BYTES_MAX:
        return socket
    digest = hashlib.sha256(bytes(settings.state_dir)).hexdigest()[:16]
    return PurePath("/tmp") / f"inboxd-{digest}" / "valkey.sock"  # noqa: S108 - the embedded server checks its owner


def uses_embedded_server(settings: Settings) -> bool:
    """Tell whether the settings leave the server to ``inboxd up``."""
    return not settings.redis.url


def broker_url(settings: Settings) -> str:
    """Return the URL for redis-py: redis://, rediss:// or unix://."""
    return settings.redis.url or f"unix://{quote(bytes(embedded_socket_path(settings)))}"


def celery_broker_url(settings: Settings) -> str:
    """Return the same place as Celery spells it: unix sockets are redis+socket://, and TLS says what it checks."""
    plain = broker_url(settings)
    parts = urlsplit(plain)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if parts.scheme == "unix":
        query["virtual_host"] = query.pop("db", "0")
        user, password = query.pop("username", ""), query.pop("password", "")
        userinfo = parts.netloc or (f"{quote(user)}:{quote(password, safe='')}@" if user or password else "")
        return f"redis+socket://{userinfo}{parts.path}?{urlencode(query)}"
    if parts.scheme == "rediss":
        query.setdefault("ssl_cert_reqs", "required")
        return parts._replace(query=urlencode(query)).geturl()
    return plain


def make_client(settings: Settings) -> redis.Redis:
    """Return a client whose every call ends within the settings' timeouts; replies are bytes. Connects on first use."""
    return redis.Redis.from_url(
        broker_url(settings),
        socket_connect_timeout=settings.redis.connect_timeout_seconds,
        socket_timeout=settings.redis.socket_timeout_seconds,
        health_check_interval=5,
        retry=Retry(NoBackoff(), 1),  # one more try covers a connection that went stale while idle
        **({} if broker_url(settings).startswith("unix:") else {"socket_keepalive": True}),
    )


def is_answering(settings: Settings, seconds: float) -> bool:
    """Tell whether Redis answers within so many seconds."""
    hurried = {"socket_connect_timeout": seconds, "socket_timeout": seconds, "retry": Retry(NoBackoff(), 0)}
    with redis.Redis.from_url(broker_url(settings), **hurried) as asking:
        try:
            return bool(asking.ping())
        except redis.RedisError:
            return False


def blocking_seconds_max(settings: Settings) -> float:
    """Return how long a program may be kept from giving a sign of life by a Redis that hangs: two calls, each tried twice."""
    return 4 * (settings.redis.connect_timeout_seconds + settings.redis.socket_timeout_seconds) + 2.0


@contextmanager
def translate_redis_errors() -> Iterator[None]:
    """Turn what redis-py raises for a server that is away, slow, full or forbidding into BrokerAway."""
    try:
        yield
    except redis.RedisError as error:
        raise BrokerUnavailable(f"redis: {error}") from error


def without_password(url: str) -> str:
    """Return the URL without its password, for logs and screens."""
    parts = urlsplit(url)
    _, _, place = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{place}{parts.path}"
