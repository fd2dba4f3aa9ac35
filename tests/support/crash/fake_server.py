"""Redis and Celery in memory, as far as inboxd asks them: keys that expire, messages, and results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery.exceptions import Reject, Retry
from celery.states import PENDING, SUCCESS

from inboxd.broker import lua
from inboxd.messaging.celery_app import PROCESS
from inboxd.messaging.queues import WORK_QUEUE


@dataclass(frozen=True, eq=False)
class Message:
    """A task's message; one that is to wait for its ``countdown`` is kept by a worker, where no queue shows it."""

    name: str
    id: str
    args: list[Any]
    retries: int = 0
    countdown: float | None = None


@dataclass
class Mail:
    """The queues, as one. What was taken and not acknowledged is ``unacked``; ``sent`` is all that was ever sent."""

    queue: list[Message] = field(default_factory=list)
    unacked: list[Message] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)

    def send_task(self, name: str, *, args: list[Any], task_id: str = "", retries: int = 0, **options: Any) -> None:  # noqa: ANN401
        message = Message(name, task_id, args, retries, options.get("countdown"))
        self.queue.append(message)
        self.sent.append(message)

    def receive(self) -> Message | None:
        if not self.queue:
            return None
        self.unacked.append(self.queue.pop(0))
        return self.unacked[-1]

    def ack(self, message: Message) -> None:
        if message in self.unacked:
            self.unacked.remove(message)

    def waiting(self) -> list[str]:
        """Return the ids of the parcels that a look at the queues finds."""
        return [message.id for message in self.queue if message.name == PROCESS and not message.countdown]


@dataclass
class Results:
    """The result store, by task id."""

    stored: dict[str, dict[str, Any]] = field(default_factory=dict)

    def store_result(self, task_id: str, status: str, result: object) -> None:
        if self.stored.get(task_id, {}).get("status", PENDING) != SUCCESS:  # Celery keeps a success
            self.stored[task_id] = {"status": status, "result": result}

    def get_key_for_task(self, task_id: str) -> str:
        return task_id

    def mget(self, keys: Sequence[str]) -> list[dict[str, Any] | None]:
        return [self.stored.get(key) for key in keys]

    def decode_result(self, raw: dict[str, Any]) -> dict[str, Any]:
        return raw


@dataclass
class Request:
    id: str
    retries: int


class Task:
    """A bound task, as ``Process.run`` gets it."""

    def __init__(self, mail: Mail, message: Message) -> None:
        self.request = Request(message.id, message.retries)
        self._mail = mail
        self._message = message

    def retry(self, *, exc: Exception, countdown: float, max_retries: int, **_shown: str) -> Retry:
        """Send the task again, and return what is to be raised; what can't be sent is rejected, as in Celery."""
        assert self.request.retries < max_retries
        again, retries = self._message, self.request.retries + 1
        try:
            self._mail.send_task(again.name, args=again.args, task_id=again.id, retries=retries, countdown=countdown)
        except Exception as error:
            raise Reject(error, requeue=False) from error
        return Retry(exc=exc, when=countdown)


class FakeRedis:
    """Keys with an expiry, by a test's clock; values are bytes."""

    def __init__(self, mail: Mail, clock: Callable[[], float]) -> None:
        self.values: dict[str, tuple[bytes, float]] = {}
        self._mail = mail
        self._clock = clock

    def get(self, key: str) -> bytes | None:
        value, until = self.values.get(key, (None, 0.0))
        return value if until > self._clock() else None

    def set(
        self, key: str, value: bytes | str, *, ex: float = float("inf"), nx: bool = False, get: bool = False
    ) -> bytes | bool | None:
        old = self.get(key)
        if nx and old is not None:
            return old if get else None
        self.values[key] = (value.encode() if isinstance(value, str) else value, self._clock() + ex)
        return old if get else True

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def delete(self, *keys: str) -> int:
        return sum(self.values.pop(key, None) is not None for key in keys)

    def eval(self, script: str, count: int, *keys_and_values: str) -> bytes | None:
        """Do what the scripts do that are sent as they are: delete one's own, take a turn."""
        keys, values = keys_and_values[:count], keys_and_values[count:]
        if script == lua.RELEASE_LOCK:
            over = [*zip(keys, values, strict=True)]
        else:
            assert script == lua.ACQUIRE_LOCK
            over = [*zip(keys[1:], values[2:], strict=True)]
        for key, owner in over:
            if self.get(key) == owner.encode():
                self.delete(key)
        if script == lua.RELEASE_LOCK:
            return None
        self.set(keys[0], values[0], ex=float(values[1]), nx=True)
        return self.get(keys[0])

    def register_script(self, _script: str) -> Callable[..., list[bytes]]:
        """Return the one script that is asked by name: which ids wait in a queue."""

        def ids(keys: list[str], args: list[int]) -> list[bytes]:
            waiting = self._mail.waiting() if keys == [WORK_QUEUE] else []
            return [task_id.encode() for task_id in waiting[args[0] : args[1] + 1]]

        return ids
