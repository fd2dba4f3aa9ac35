"""Check the Redis server: who can reach it, and whether it keeps what it is given."""

import ipaddress
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from inboxd.broker.connection import broker_url, translate_redis_errors, without_password
from inboxd.config.settings import Settings
from inboxd.errors import Finding

_SECRETS = ("username", "password", "ssl_certfile", "ssl_keyfile")
"""What a stranger does not have, of a URL's query."""
_REMEDY = (
    "leave redis.url empty, and inboxd runs a server of its own that only its group can reach; or set a password (requirepass, "
    "or a user made by `inboxd redis-acl`) and write it into the URL; or say redis.allow_no_password = true"
)


def find_server_problems(client: redis.Redis, settings: Settings) -> list[Finding]:
    """Return what is wrong with the server. Raises BrokerUnavailable if it does not answer."""
    return [*find_open_doors(settings), *_find_eviction(client, settings)]


def find_open_doors(settings: Settings) -> Iterator[Finding]:
    """Yield a finding if others than inboxd can read and change what is in Redis; it blocks if they can from other hosts."""
    url = broker_url(settings)
    parts = urlsplit(url)
    where = f"redis.url, {without_password(url)}"
    if settings.redis.allow_no_password:
        return
    if parts.scheme == "unix":
        with suppress(OSError):
            if Path(unquote(parts.path)).stat().st_mode & stat.S_IWOTH and lets_in_without_password(settings):
                problem = (
                    "every local user can connect without a password: they can read the files in messages, and forge outcomes"
                )
                yield Finding(where, problem, "set unixsocketperm 770 and a group for those who may", blocks=False)
    elif lets_in_without_password(settings):
        is_local = all(map(_is_loopback, _addresses(parts.hostname or "localhost")))
        whose = "every local user" if is_local else "everybody in the network"
        problem = f"{whose} can connect without a password: they can read the files in messages, and forge outcomes"
        yield Finding(where, problem, _REMEDY, blocks=not is_local)


def lets_in_without_password(settings: Settings) -> bool:
    """Return whether the server answers a client that gives no password; False if it does not answer at all."""
    parts = urlsplit(broker_url(settings))
    query = urlencode([(key, value) for key, value in parse_qsl(parts.query) if key not in _SECRETS])
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}?{query}"
    timeouts = {
        "socket_connect_timeout": settings.redis.connect_timeout_seconds,
        "socket_timeout": settings.redis.socket_timeout_seconds,
    }
    with suppress(redis.RedisError), redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **timeouts) as stranger:
        return bool(stranger.ping())
    return False


def _find_eviction(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    with translate_redis_errors():
        try:
            policy = client.info("memory").get("maxmemory_policy", "noeviction")
        except NoPermissionError:
            return
    if policy != "noeviction":
        problem = (
            f"deletes keys when its memory is full (maxmemory-policy {policy}): messages, leases and outcomes would be lost"
        )
        where = f"redis.url, {without_password(broker_url(settings))}"
        yield Finding(where, problem, "set maxmemory-policy noeviction", blocks=False)


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, None)]
    except OSError:
        return []
