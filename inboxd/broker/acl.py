"""The least rights that inboxd needs in Redis or Valkey, as a user of its access control lists (Redis 6 and later)."""

from collections.abc import Collection
from hashlib import sha256

_KEYS = ("inboxd[:.]*", "celery-task-meta-*", "_kombu.binding*", "*.inboxd.pidbox")
"""Patterns of the keys without a namespace: inboxd's own and its queues, outcomes, bindings, broadcasts and their replies."""
_CHANNELS = ("/*.inboxd*", "celery-task-meta-*")
"""Patterns of the channels without a namespace: broadcasts and events, and outcomes."""
_KEYS_OF_APPS, _CHANNELS_OF_APPS = ("unacked*", "*.celery.pidbox"), ("/*.celery.pidbox",)
"""What is read and written besides a queue of another Celery app: what its workers have received, and what they are asked."""
_SUBSCRIPTIONS = ("/{db}.inboxd.pidbox", "/{db}.inboxdev/worker.*", "/{db}.inboxdev/*", "/{db}.inboxdev/#")
"""What Celery subscribes to as patterns, which Redis allows only if the rule has the same text."""

_CONNECTION = ("client|reply", "info", "time")
_TRANSACTIONS = ("multi", "exec", "discard", "watch", "unwatch")
_SCRIPTS = ("eval", "evalsha", "script|load", "script|exists")
_CHANNEL_COMMANDS = ("publish", "subscribe", "psubscribe", "unsubscribe", "punsubscribe")
_STRINGS = ("get", "set", "setex", "psetex", "mget", "incr", "incrby")
_ALL_TYPES = ("del", "exists", "expire", "pexpire", "persist", "ttl", "pttl", "type")
_HASHES = ("hset", "hget", "hmget", "hgetall", "hdel", "hlen", "hvals", "hkeys", "hstrlen", "hincrby", "hincrbyfloat")
_LISTS = ("lpush", "rpush", "rpop", "lpop", "brpop", "llen", "lrange", "ltrim", "lrem")
_SETS = ("sadd", "srem", "smembers", "scard")
_SORTED_SETS = (
    "zadd", "zrem", "zrange", "zrangebyscore", "zrevrangebyscore", "zremrangebyscore", "zremrangebyrank", "zcard", "zscore",
)  # fmt: skip
COMMANDS = (
    *_CONNECTION, *_TRANSACTIONS, *_SCRIPTS, *_CHANNEL_COMMANDS, *_STRINGS, *_ALL_TYPES, *_HASHES, *_LISTS, *_SETS,
    *_SORTED_SETS,
)  # fmt: skip
"""The commands of inboxd, Celery and Kombu, without those of a connection, whose names differ between versions of the server:
none that reads other users' data, or that changes or stops the server."""


def acl_rules(namespace: str, password: str, db: int = 0, queues: Collection[str] = ()) -> list[str]:
    """Return the rules of a user: the password's hash, the keys and channels of the namespace ("": none), and the commands.

    ``queues`` are those of other Celery apps, whose tasks handle files: their messages are sent and looked for there.
    """
    prefix = f"{namespace}:" if namespace else ""
    of_apps = [*(f"{queue}*" for queue in sorted(queues)), *_KEYS_OF_APPS] if queues else []
    keys, channels = (
        ([f"{prefix}*"], [f"{prefix}*"])
        if namespace
        else ([*_KEYS, *of_apps], [*_CHANNELS, *(_CHANNELS_OF_APPS if queues else ())])
    )
    channels = [*channels, *(prefix + pattern.format(db=db) for pattern in _SUBSCRIPTIONS)]
    return [
        "reset", "on", f"#{sha256(password.encode()).hexdigest()}", *(f"~{pattern}" for pattern in keys),
        *(f"&{pattern}" for pattern in channels), "-@all", "+@connection", "-@admin", "-@dangerous",
        *(f"+{command}" for command in COMMANDS),
    ]  # fmt: skip
