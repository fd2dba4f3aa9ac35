"""In-memory stand-ins for Redis and Celery, with what inboxd uses of them: expiring keys, messages and results."""

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
    """A task's message. A worker keeps a message with a ``countdown`` until it is due: it is then in no queue of Redis."""

    name: str
    id: str
    args: list[Any]
    retries: int = 0
    countdown: float | None = None


@dataclass
class FakeQueue:
    """All queues in one. ``unacked`` holds delivered messages that were not acknowledged, ``sent`` all that were ever sent."""

    messages: list[Message] = field(default_factory=list)
    unacked: list[Message] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)

    def send_task(self, name: str, *, args: list[Any], task_id: str = "", retries: int = 0, **options: Any) -> None:  # noqa: ANN401
        message = Message(name, task_id, args, retries, options.get("countdown"))
        self.messages.append(message)
        self.sent.append(message)

    def receive(self) -> Message | None:
        if not self.messages:
            return None
        self.unacked.append(self.messages.pop(0))
        return self.unacked[-1]

    def ack(self, message: Message) -> None:
        if message in self.unacked:
            self.unacked.remove(message)

    def waiting(self) -> list[str]:
        """Return the ids of the parcels in the queues."""
        return [message.id for message in self.messages if message.name == PROCESS and not message.countdown]


@dataclass
class FakeResults:
    """The result store: task id -> stored result."""

    stored: dict[str, dict[str, Any]] = field(default_factory=dict)

    def store_result(self, task_id: str, status: str, result: object) -> None:
        if self.stored.get(task_id, {}).get("status", PENDING) != SUCCESS:  # as in Celery, a success is final
            self.stored[task_id] = {"status": status, "result": result}

    def get_key_for_task(self, task_id: str) -> str:
        return task_id

    def mget(self, keys: Sequence[str]) -> list[dict[str, Any] | None]:
        return [self.stored.get(key) for key in keys]

    def decode_result(self, raw: dict[str, Any]) -> dict[str, Any]:
        return raw


@dataclass
class FakeRequest:
    id: str
    retries: int


class FakeTask:
    """A bound task, as ``ParcelProcessor.run`` receives one."""

    def __init__(self, queue: FakeQueue, message: Message) -> None:
        self.request = FakeRequest(message.id, message.retries)
        self._queue = queue
        self._message = message

    def retry(self, *, exc: Exception, countdown: float, max_retries: int, **_reprs: str) -> Retry:
        """Send the task again and return the exception to raise; as in Celery, raise Reject if the message can't be sent."""
        assert self.request.retries < max_retries
        sent, retries = self._message, self.request.retries + 1
        try:
            self._queue.send_task(sent.name, args=sent.args, task_id=sent.id, retries=retries, countdown=countdown)
        except Exception as error:
            raise Reject(error, requeue=False) from error
        return Retry(exc=exc, when=countdown)


class FakeRedis:
    """Keys with an expiry by the test's clock; values are bytes."""

    def __init__(self, queue: FakeQueue, clock: Callable[[], float]) -> None:
        self.values: dict[str, tuple[bytes, float]] = {}
        self._queue = queue
        self._clock = clock

    def get(self, key: str) -> bytes | None:
        value, expires_at = self.values.get(key, (None, 0.0))
        return value if expires_at > self._clock() else None

    def set(
        self, key: str, value: bytes | str, *, ex: float = float("inf"), nx: bool = False, get: bool = False
    ) -> bytes | bool | None:
        previous = self.get(key)
        if nx and previous is not None:
            return previous if get else None
        self.values[key] = (value.encode() if isinstance(value, str) else value, self._clock() + ex)
        return previous if get else True

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def llen(self, _key: str) -> int:
        return 0

    hlen = llen

    def ttl(self, _key: str) -> int:
        return -2

    def zrangebyscore(self, *_range: object, **_options: object) -> list[bytes]:
        return []

    def delete(self, *keys: str) -> int:
        return sum(self.values.pop(key, None) is not None for key in keys)

    def eval(self, script: str, count: int, *keys_and_values: str) -> bytes | None:
        """Emulate RELEASE_LOCK and ACQUIRE_LOCK: delete the locks that their owners release, then set a free one."""
        keys, values = keys_and_values[:count], keys_and_values[count:]
        if script == lua.RELEASE_LOCK:
            released = [*zip(keys, values, strict=True)]
        else:
            assert script == lua.ACQUIRE_LOCK
            released = [*zip(keys[1:], values[2:], strict=True)]
        for key, owner in released:
            if self.get(key) == owner.encode():
                self.delete(key)
        if script == lua.RELEASE_LOCK:
            return None
        self.set(keys[0], values[0], ex=float(values[1]), nx=True)
        return self.get(keys[0])

    def register_script(self, _script: str) -> Callable[..., list[bytes]]:
        """Return a stand-in for the only registered script: the ids of the parcels in a queue."""

        def list_ids(keys: list[str], args: list[int]) -> list[bytes]:
            task_ids = self._queue.waiting() if keys == [WORK_QUEUE] else []
            return [task_id.encode() for task_id in task_ids[args[0] : args[1] + 1]]

        return list_ids
