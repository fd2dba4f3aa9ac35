"""inboxd's programs over an in-memory world: watcher, worker and sweeps in one process, with or without a fault."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import redis
from celery.exceptions import Ignore, Reject, Retry
from celery.states import FAILURE, RETRY, SUCCESS
from kombu.exceptions import OperationalError
from support.crash.fake_server import FakeTask, Message
from support.crash.faults import DIES, Fault
from support.disk.spools import NO_WAITS
from support.parts.fake_context import GRACE_SECONDS, HOST, run_all_turns
from support.parts.fakes import FakeProgress

from inboxd.broker.counters import Tally
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.intake.intake import Intake, IntakeDeps
from inboxd.messaging.celery_app import FAILURE_CALLBACK, PROCESS, SUCCESS_CALLBACK
from inboxd.messaging.outcome import FileOutcome
from inboxd.messaging.publishing import Publisher
from inboxd.spool.claims import list_files
from inboxd.tasks.outcomes import callbacks
from inboxd.tasks.outcomes.republish import Republisher
from inboxd.tasks.process_state.child_guard import ChildGuard
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.sweep_locks import SweepLocks
from inboxd.tasks.processing.lease_renewer import LeaseRenewer
from inboxd.tasks.processing.process_parcel import ParcelProcessor
from inboxd.tasks.sweeps.expired import sweep_expired
from inboxd.tasks.sweeps.missed import sweep_missed
from inboxd.tasks.sweeps.stale import sweep_stale

if TYPE_CHECKING:
    from support.crash.world import World

NEVER = 1 << 62
"""An operation number that no path reaches."""
STEP_SECONDS = 60.0
"""Delay of the sweeps after a fault, by the world's clock: leases have expired, an unreleased sweep lock has not."""

SWEEPS = 2
"""Number of times that a recovery runs both sweeps."""
ROUNDS_MAX = 12
"""Maximum rounds of work and recovery in ``settle``."""


class RenewingOnce(LeaseRenewer):
    """Renews a lease once, when the work begins, and without a thread, so that operations have the same numbers in each run."""

    @contextlib.contextmanager
    def renewing(self, parcel: str, token: str) -> Iterator[None]:
        self._renewed.add((parcel, token))
        self._renew(parcel, token)
        yield


class _LossyProgress(FakeProgress):
    """Progress that drops a record while Redis is unavailable."""

    def __init__(self, target: FakeProgress) -> None:
        self._target = target

    def record(self, parcel: str, file: FileOutcome) -> None:
        with contextlib.suppress(BrokerUnavailable):
            self._target.record(parcel, file)

    def read(self, parcel: str) -> dict[bytes, FileOutcome]:
        return self._target.read(parcel)


class Program:
    """A process that acts as watcher, worker and sweeps; with a ``fault`` at operation number ``point``."""

    def __init__(self, world: "World", fault: Fault | None = None, point: int = NEVER) -> None:
        self.world = world
        self.fault = fault
        self.fuse = (fault or DIES).fuse(point)
        self._queue = self._in_redis(world.queue, OperationalError("on purpose"))
        self._results = self._in_redis(world.results, redis.ConnectionError("on purpose"))
        leases = self._in_redis(world.leases, BrokerUnavailable("on purpose"))
        changes = self._in_redis(world.changes, BrokerUnavailable("on purpose"))
        progress = self._in_redis(world.progress, BrokerUnavailable("on purpose"))
        counters = self._in_redis(world.counters, BrokerUnavailable("on purpose"))
        client = self._in_redis(world.redis, redis.ConnectionError("on purpose"))
        app: Any = SimpleNamespace(send_task=self._queue.send_task, backend=self._results)
        disk: Any = self.fuse.add_part(world.disk) if fault and fault.on_disk else world.disk
        locks, guard = SweepLocks(client, HOST), ChildGuard(256)
        self.context = WorkerContext(
            world.settings, app, disk, client, leases, changes, _LossyProgress(progress), counters, locks, guard
        )
        renewer = RenewingOnce(leases, world.settings.work.lease_seconds)
        self._processor = ParcelProcessor(self.context, renewer)

    def _in_redis(self, part: object, error: Exception) -> Any:  # noqa: ANN401 - the proxy has the part's interface
        return self.fuse.add_part(part, error) if self.fault and self.fault.in_redis else part

    def watch(self) -> None:
        """Claim and publish the files in inbox/."""
        context = self.context
        publisher = Publisher(context.app, context.leases)
        deps = IntakeDeps(context.disk, context.leases, publisher.publish, HOST, GRACE_SECONDS)
        run_all_turns(Intake(deps, self.world.inbox, NO_WAITS, network=False))

    def publish(self, parcel: str) -> None:
        """Publish a claimed parcel."""
        with self.world.spool.folders() as folders:
            self.context.leases.queue(parcel, "drop", GRACE_SECONDS)
            republisher = Republisher(self.context, self.world.inbox, folders, Tally())
            republisher.publish(parcel, list_files(Disk(), folders, parcel))

    def work(self, *, messages_max: int = NEVER) -> None:
        """Receive messages and run their tasks as Celery does, until the queue is empty."""
        while messages_max and self.world.queue.messages:
            messages_max -= 1
            with contextlib.suppress(OperationalError):  # the consumer reconnects
                if (message := self._queue.receive()) is None:
                    continue  # the message was delivered, but the reply was lost
                with contextlib.suppress(redis.ConnectionError, OperationalError):  # Celery logs the error and acknowledges
                    self._deliver(message)
                self._queue.ack(message)

    def missed(self) -> None:
        sweep_missed(self.context)

    def stale(self) -> None:
        sweep_stale(self.context)

    def expired(self) -> None:
        sweep_expired(self.context)

    def recover(self) -> None:
        """Run both sweeps SWEEPS times, and no worker."""
        for _ in range(SWEEPS):
            self.world.leases.now += STEP_SECONDS
            self.missed()
            self.stale()

    def settle(self) -> None:
        """Work and sweep in turns until every file is filed."""
        for _ in range(ROUNDS_MAX):
            self.work()
            if not self.world.in_flight:
                return
            self.recover()

    def _deliver(self, message: Message) -> None:
        match message.name:
            case name if name == PROCESS:
                self._process_parcel(message)
            case name if name == SUCCESS_CALLBACK:
                callbacks.succeeded(self.context, *message.args)
            case name if name == FAILURE_CALLBACK:
                callbacks.failed(self.context, *message.args)

    def _process_parcel(self, message: Message) -> None:
        """Process a parcel. Celery sends the success callback before it stores the result, and the error callback after."""
        task: Any = FakeTask(self._queue, message)
        try:
            outcome = self._processor.run(task, *message.args)
            self._queue.send_task(SUCCESS_CALLBACK, args=[outcome])
        except (Ignore, Reject):
            return
        except Retry:
            self._results.store_result(message.id, RETRY, None)
        except Exception as error:  # noqa: BLE001 - as Celery does
            self._results.store_result(message.id, FAILURE, error)
            self._queue.send_task(FAILURE_CALLBACK, args=["drop", message.id])
        else:
            self._results.store_result(message.id, SUCCESS, outcome)
