"""A Redis client that can't be stopped by a value that another program has written: what can't be read counts as absent.

It also puts the namespace of an installation before each key, so that several can use one database.

A value of the wrong type, or one with which Redis can't calculate, is removed, its command is repeated, and the log says so
once. ``read_value`` does the same for a value that Python can't decode.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from redis.client import Pipeline
from redis.exceptions import ResponseError

from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape

_T = TypeVar("_T")

_WRONG_VALUE_ERRORS = (
    "WRONGTYPE",
    "not an integer",
    "not a valid float",
    "not a float",
    "would overflow",
    "would produce NaN",
    "not a number",
    "attempt to perform arithmetic",
    "attempt to compare",
    "attempt to concatenate",
    "bad argument",
)
"""Parts of Redis's and Lua's error texts that say that a stored value has the wrong type or content."""

_ALL_ARE_KEYS = frozenset({"MGET", "DEL", "EXISTS", "WATCH", "UNLINK"})
_ALL_BUT_LAST_ARE_KEYS = frozenset({"BRPOP"})
_COUNTED_KEYS = frozenset({"EVAL", "EVALSHA"})
"""Commands whose second argument is the number of keys that follow."""
_WITHOUT_KEYS = frozenset(
    {"PING", "INFO", "TIME", "SCRIPT", "CONFIG", "CLIENT", "ACL", "UNWATCH", "FLUSHDB", "FLUSHALL", "SHUTDOWN", "SAVE"}
)  # fmt: skip

DECODE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError, RecursionError, LookupError)
"""What decoding may raise that never was encoded by inboxd."""

_KEY_CHARS_MAX, _ERROR_CHARS_MAX = 200, 500
_REMEDY = (
    "none for this value, which was removed; find out which program writes to this Redis, and give it a database of its own"
)

_log = get_logger(__name__)


class ForgivingPipeline(Pipeline):
    """A pipeline whose commands are repeated one by one if a wrong value made them fail."""

    def __init__(self, client: "ForgivingRedis", *, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client

    def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's own signature
        """Buffer or execute a command, with the namespace before its keys."""
        return super().execute_command(*self._client.with_prefix(args), **options)  # type: ignore[no-untyped-call]

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Execute all commands; raise the first error that is not due to a wrong value, if ``raise_on_error``."""
        commands = list(self.command_stack)
        results = super().execute(raise_on_error=False)
        for index, (command, result) in enumerate(zip(commands, results, strict=False)):
            if _is_wrong_value(result):
                arguments, options = command
                own_arguments = self._client.without_prefix(arguments)
                discard(self._client, keys_of(own_arguments), str(result))
                results[index] = self._client.execute_command(*own_arguments, **options)
        if raise_on_error:
            self.raise_first_error(commands, results)  # type: ignore[no-untyped-call]
        return results


class ForgivingRedis(redis.Redis):
    """A client that removes values of the wrong type, and puts ``key_prefix`` before each key."""

    key_prefix = ""

    def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's own signature
        """Execute a command; if a wrong value makes it fail, remove the value and execute it once more."""
        prefixed = self.with_prefix(args)
        try:
            return super().execute_command(*prefixed, **options)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            if not _is_wrong_value(error):
                raise
            discard(self, keys_of(args), str(error))
            return super().execute_command(*prefixed, **options)  # type: ignore[no-untyped-call]

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:  # noqa: ANN401 - redis-py's own
        """Return the reply to a command, without the namespace where the reply names a key."""
        reply = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name in _ALL_BUT_LAST_ARE_KEYS and reply:
            return (reply[0][len(self.key_prefix) :], *reply[1:])
        return reply

    def with_prefix(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """Return a command and its arguments, with the namespace before each key."""
        if not self.key_prefix:
            return arguments
        first, end = _key_positions(arguments)
        return [*arguments[:first], *map(self._prefixed, arguments[first:end]), *arguments[end:]]

    def without_prefix(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """Return what ``with_prefix`` was given."""
        first, end = _key_positions(arguments)
        return [*arguments[:first], *(key[len(self.key_prefix) :] for key in arguments[first:end]), *arguments[end:]]

    def _prefixed(self, key: str | bytes) -> str | bytes:
        return self.key_prefix.encode() + key if isinstance(key, bytes) else self.key_prefix + key

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> ForgivingPipeline:  # noqa: ANN401 - redis-py's own
        """Return a pipeline."""
        del shard_hint
        return ForgivingPipeline(self, transaction=transaction)


def with_namespace(client: redis.Redis, command: Sequence[Any]) -> Sequence[Any]:
    """Return a command as the client sends it: for a connection that is used without it."""
    return client.with_prefix(command) if isinstance(client, ForgivingRedis) else command


def read_value(client: redis.Redis, key: str, raw: bytes | None, decode: Callable[[bytes], _T]) -> _T | None:
    """Return a decoded value, None if there is none; one that can't be decoded is removed from Redis."""
    if raw is None:
        return None
    try:
        return decode(raw)
    except DECODE_ERRORS as error:
        discard(client, [key], f"{type(error).__name__}: {error}")
        return None


def discard(client: redis.Redis, keys: Sequence[str | bytes], error: str) -> None:
    """Remove values that can't be used, and log that."""
    if keys:
        log_discarded(keys, error)
        client.delete(*keys)


def log_discarded(keys: Sequence[str | bytes], error: str) -> None:
    """Log that values are removed because they can't be used."""
    names = [escape(key)[:_KEY_CHARS_MAX] for key in keys]
    _log.warning(events.VALUE_DISCARDED, keys=names, error=escape(error[:_ERROR_CHARS_MAX]), remedy=_REMEDY)


def finite_number(raw: bytes | float, minimum: float = 0.0, maximum: float = math.inf) -> float:
    """Return a number. Raises ValueError for NaN, for an infinite one, and for one beyond the limits."""
    number = float(raw)
    if not math.isfinite(number) or not minimum <= number <= maximum:
        raise ValueError(f"{number} is no number from {minimum:g} to {maximum:g}")
    return number


def keys_of(arguments: Sequence[Any]) -> list[str | bytes]:
    """Return the keys of a command with its arguments: all of MGET's, a script's own, and the first argument of others."""
    first, end = _key_positions(arguments)
    return list(arguments[first:end])


def _key_positions(arguments: Sequence[Any]) -> tuple[int, int]:
    """Return the positions of a command's first key, and after its last, among the command's name and arguments."""
    name = arguments[0]
    if name in _COUNTED_KEYS:
        return 3, 3 + int(arguments[2])
    if name in _ALL_ARE_KEYS:
        return 1, len(arguments)
    if name in _ALL_BUT_LAST_ARE_KEYS:
        return 1, len(arguments) - 1
    return (1, 1) if str(name).split(" ")[0] in _WITHOUT_KEYS else (1, 2)


def _is_wrong_value(result: object) -> bool:
    return isinstance(result, ResponseError) and any(text in str(result) for text in _WRONG_VALUE_ERRORS)
