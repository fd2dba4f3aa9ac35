"""Programs of inboxd's over a world in memory: watcher, worker and sweep in one process, with a fuse or without."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import redis
from celery.exceptions import Ignore, Reject, Retry
from celery.states import FAILURE, RETRY, SUCCESS
from kombu.exceptions import OperationalError
from support.crash.fake_server import Message, Task
from support.crash.faults import DIES, Fault
from support.disk.spools import AT_ONCE
from support.parts.fake_context import GRACE_SECONDS, HOST, take_all
from support.parts.fakes import FakeProgress

from inboxd.broker.counters import Tally
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.intake.intake import Intake, IntakeDeps
from inboxd.messaging.celery_app import FAILED, PROCESS, SUCCEEDED, send_parcel
from inboxd.messaging.outcome import FileOutcome
from inboxd.spool.claims import list_files
from inboxd.tasks.outcomes import callbacks
from inboxd.tasks.outcomes.republish import Republisher
from inboxd.tasks.sweeps.expired import sweep_expired
from inboxd.tasks.sweeps.missed import sweep_missed
from inboxd.tasks.sweeps.stale import sweep_stale
from inboxd.tasks.work.lease_renewer import LeaseRenewer
from inboxd.tasks.work.process_parcel import ParcelProcessor
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.sweep_locks import SweepLocks

if TYPE_CHECKING:
    from support.crash.world import World

NEVER = 1 << 62
STEP_SECONDS = 60.0
"""So long after a fault the sweeps come: leases have lapsed, but a turn that was not given back has not."""

SWEEPS = 2
ROUNDS_MAX = 12


class RenewingOnce(LeaseRenewer):
    """Renews a lease once, at the beginning, and in no thread: so the test can count on it."""

    @contextlib.contextmanager
    def renewing(self, parcel: str, token: str) -> Iterator[None]:
        self._renewed.add((parcel, token))
        self._renew(parcel, token)
        yield


class _Noting(FakeProgress):
    """Progress on a fuse: a note that gets lost is lost without a word."""

    def __init__(self, behind: FakeProgress) -> None:
        self._behind = behind

    def record(self, parcel: str, file: FileOutcome) -> None:
        with contextlib.suppress(BrokerUnavailable):
            self._behind.record(parcel, file)

    def read(self, parcel: str) -> dict[bytes, FileOutcome]:
        return self._behind.read(parcel)


class Program:
    """A process of inboxd's, with a fuse or without: watcher, worker and sweep in one."""

    def __init__(self, world: "World", fault: Fault | None = None, point: int = NEVER) -> None:
        self.world = world
        self.fault = fault
        self.fuse = (fault or DIES).fuse(point)
        self._mail = self._in_redis(world.mail, OperationalError("on purpose"))
        self._results = self._in_redis(world.results, redis.ConnectionError("on purpose"))
        leases = self._in_redis(world.leases, BrokerUnavailable("on purpose"))
        progress = self._in_redis(world.progress, BrokerUnavailable("on purpose"))
        counters = self._in_redis(world.counters, BrokerUnavailable("on purpose"))
        client = self._in_redis(world.redis, redis.ConnectionError("on purpose"))
        app: Any = SimpleNamespace(send_task=self._mail.send_task, backend=self._results)
        disk: Any = self.fuse.also(world.disk) if fault and fault.on_disk else world.disk
        self.context = WorkerContext(
            world.settings, app, disk, client, leases, _Noting(progress), counters, SweepLocks(client, HOST)
        )
        renewer = RenewingOnce(leases, world.settings.work.lease_seconds)
        self._process = ParcelProcessor(self.context, renewer)

    def _in_redis(self, part: object, error: Exception) -> Any:  # noqa: ANN401 - stands for whatever it is before
        return self.fuse.also(part, error) if self.fault and self.fault.in_redis else part

    def watch(self) -> None:
        """Take in what lies in the inbox."""
        context = self.context
        means = IntakeDeps(
            context.disk, context.leases, lambda parcel, inbox: send_parcel(context.app, parcel, inbox), HOST, GRACE_SECONDS
        )
        take_all(Intake(means, self.world.inbox, AT_ONCE, network=False))

    def publish(self, parcel: str) -> None:
        """Send a claimed parcel."""
        with self.world.spool.folders() as folders:
            self.context.leases.queue(parcel, "drop", GRACE_SECONDS)
            republisher = Republisher(self.context, self.world.inbox, folders, Tally())
            republisher.publish(parcel, list_files(Disk(), folders, parcel))

    def work(self, *, messages: int = NEVER) -> None:
        """Take messages from the queues, and do what Celery does with them."""
        while messages and self.world.mail.queue:
            messages -= 1
            with contextlib.suppress(OperationalError):  # the consumer begins anew
                if (message := self._mail.receive()) is None:
                    continue  # it was taken, and its way to us was lost
                with contextlib.suppress(redis.ConnectionError, OperationalError):  # Celery logs it, and acknowledges
                    self._deliver(message)
                self._mail.ack(message)

    def missed(self) -> None:
        sweep_missed(self.context)

    def stale(self) -> None:
        sweep_stale(self.context)

    def expired(self) -> None:
        sweep_expired(self.context)

    def recover(self) -> None:
        """Sweep, again and again; nothing else."""
        for _ in range(SWEEPS):
            self.world.leases.now += STEP_SECONDS
            self.missed()
            self.stale()

    def settle(self) -> None:
        """Sweep and work until everything is filed away."""
        for _ in range(ROUNDS_MAX):
            self.work()
            if not self.world.in_flight:
                return
            self.recover()

    def _deliver(self, message: Message) -> None:
        match message.name:
            case name if name == PROCESS:
                self._work_on(message)
            case name if name == SUCCEEDED:
                callbacks.succeeded(self.context, *message.args)
            case name if name == FAILED:
                callbacks.failed(self.context, *message.args)

    def _work_on(self, message: Message) -> None:
        """Work on a parcel. Celery sends the success callback before it stores the result, the error callback after."""
        task: Any = Task(self._mail, message)
        try:
            outcome = self._process.run(task, *message.args)
            self._mail.send_task(SUCCEEDED, args=[outcome])
        except (Ignore, Reject):
            return
        except Retry:
            self._results.store_result(message.id, RETRY, None)
        except Exception as error:  # noqa: BLE001 - as Celery does
            self._results.store_result(message.id, FAILURE, error)
            self._mail.send_task(FAILED, args=["drop", message.id])
        else:
            self._results.store_result(message.id, SUCCESS, outcome)
