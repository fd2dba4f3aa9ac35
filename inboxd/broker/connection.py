"""Redis addresses and clients, built from the ``redis.*`` settings; and the translation of redis-py's errors."""

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from inboxd.broker.forgiving import ForgivingRedis
from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable, Finding, SettingsError

SOCKET_PATH_BYTES_MAX = 100
"""Maximum length of the embedded server's socket path: Linux allows 108 bytes, and the server appends a suffix at its start."""

HEALTH_CHECK_SECONDS = 5
"""Idle time after which a connection is pinged before its next use, in seconds."""


def embedded_socket_path(settings: Settings) -> PurePath:
    """Return the path of the embedded server's socket: in state_dir, or in /tmp if the path in state_dir is too long."""
    socket = settings.state_dir / "valkey" / "valkey.sock"
    if len(bytes(socket)) <= SOCKET_PATH_BYTES_MAX:
        return socket
    digest = hashlib.sha256(bytes(settings.state_dir)).hexdigest()[:16]
    return PurePath("/tmp") / f"inboxd-{digest}" / "valkey.sock"  # noqa: S108 - the embedded server checks its owner


def uses_embedded_server(settings: Settings) -> bool:
    """Return whether ``inboxd up`` runs the server, because the settings name none."""
    return not settings.redis.url


def broker_url(settings: Settings) -> str:
    """Return the URL for redis-py: redis://, rediss:// or unix://."""
    return settings.redis.url or f"unix://{quote(bytes(embedded_socket_path(settings)))}"


def celery_broker_url(settings: Settings) -> str:
    """Return the URL for Celery: unix sockets are redis+socket://, and rediss:// requires a certificate by default."""
    url = broker_url(settings)
    parts = urlsplit(url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if parts.scheme == "unix":
        query["virtual_host"] = query.pop("db", "0")
        user, password = query.pop("username", ""), query.pop("password", "")
        userinfo = parts.netloc or (f"{quote(user)}:{quote(password, safe='')}@" if user or password else "")
        return f"redis+socket://{userinfo}{parts.path}?{urlencode(query)}"
    if parts.scheme == "rediss":
        query.setdefault("ssl_cert_reqs", "required")
        return parts._replace(query=urlencode(query)).geturl()
    return url


def require_own_socket(settings: Settings) -> None:
    """Raise SettingsError if a socket outside state_dir, in /tmp, is in a folder that another user than its owner has made."""
    folder = Path(embedded_socket_path(settings).parent)
    if not uses_embedded_server(settings) or folder.is_relative_to(settings.state_dir):
        return
    with suppress(FileNotFoundError):
        status, owner = folder.lstat(), Path(settings.state_dir).stat().st_uid
        if status.st_uid != owner or not stat.S_ISDIR(status.st_mode):
            problem = f"{folder}, where the socket is to be, does not belong to its owner"
            raise SettingsError([Finding(f"state_dir = {settings.state_dir}", problem, "set a shorter state_dir")])


def make_client(settings: Settings) -> redis.Redis:
    """Return a client that connects on first use, applies the settings' timeouts to each call, and returns bytes."""
    require_own_socket(settings)
    client = ForgivingRedis.from_url(
        broker_url(settings),
        socket_connect_timeout=settings.redis.connect_timeout_seconds,
        socket_timeout=settings.redis.socket_timeout_seconds,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=Retry(NoBackoff(), 1),  # one retry covers a connection that the server closed while it was idle
        **({} if broker_url(settings).startswith("unix:") else {"socket_keepalive": True}),
    )
    client.key_prefix = key_prefix(settings)  # type: ignore[attr-defined]  # from_url returns an instance of its class
    return client


def key_prefix(settings: Settings) -> str:
    """Return what precedes each key and channel of an installation: "" if ``redis.namespace`` is not set."""
    return f"{settings.redis.namespace}:" if settings.redis.namespace else ""


def is_answering(settings: Settings, timeout_seconds: float) -> bool:
    """Return whether Redis answers a ping within ``timeout_seconds``."""
    options = {"socket_connect_timeout": timeout_seconds, "socket_timeout": timeout_seconds, "retry": Retry(NoBackoff(), 0)}
    with redis.Redis.from_url(broker_url(settings), **options) as client, suppress(redis.RedisError):
        return bool(client.ping())
    return False


def blocking_seconds_max(settings: Settings) -> float:
    """Return how long a hanging Redis can delay a watchdog notification: two calls with two attempts each, and a margin."""
    return 4 * (settings.redis.connect_timeout_seconds + settings.redis.socket_timeout_seconds) + 2.0


@contextmanager
def translate_redis_errors() -> Iterator[None]:
    """Raise BrokerUnavailable for every redis-py error: a server that is unreachable, slow, out of memory or denies access."""
    try:
        yield
    except redis.RedisError as error:
        raise BrokerUnavailable(f"redis: {error}") from error


def without_password(url: str) -> str:
    """Return the URL without user, password and query, for logs and terminals."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
