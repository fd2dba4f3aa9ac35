"""`celery worker` as a service, built from the settings, with safeguards, readiness, watchdog and reload on SIGHUP."""

import contextlib
import os
import signal
import sys
import threading
import warnings
from functools import partial
from typing import Any

from celery import bootsteps, signals
from celery.apps.worker import Worker as CelerysWorker
from celery.concurrency.prefork import TaskPool
from celery.exceptions import SecurityWarning
from celery.worker.components import Pool
from kombu.exceptions import OperationalError

from inboxd.broker.connection import blocking_seconds_max
from inboxd.broker.installations import Registration, describe_installation
from inboxd.config.loading import find_settings
from inboxd.config.settings import Settings
from inboxd.errors import SettingsError
from inboxd.fs.syscalls import become_subreaper, ignore_lease_breaks
from inboxd.logs.setup import configure_logging
from inboxd.messaging.celery_app import SWEEP_EXPIRED, SWEEP_STALE
from inboxd.messaging.queues import host_queue, stage_queue
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.service import sd_notify
from inboxd.service.preflight import require_no_problems
from inboxd.service.visibility import share_folders
from inboxd.tasks.hardening import transport
from inboxd.tasks.hardening.broadcast_filter import BroadcastFilter
from inboxd.tasks.hardening.consumer import SteadyConsumer
from inboxd.tasks.hardening.consumer_watchdog import ConsumerWatchdog
from inboxd.tasks.hardening.message_filter import MessageFilter
from inboxd.tasks.outcomes import callbacks
from inboxd.tasks.process_state.context import make_context
from inboxd.tasks.process_state.shared_settings import CurrentContext
from inboxd.tasks.processing import process_parcel, stage_parcel
from inboxd.tasks.service.pool import guarded_pool
from inboxd.tasks.service.worker_reload import Reloader
from inboxd.tasks.sweeps import tasks as sweep_tasks
from inboxd.tasks.sweeps.stale import check_keys, file_finished_parcels


class Worker(CelerysWorker):
    """Celery's worker with inboxd's tasks and the safeguards of ``hardening``."""

    def on_before_init(self, quiet: bool = False, **options: Any) -> None:  # noqa: ANN401 - Celery's own signature
        """Build the worker's parts, before Celery creates its pool and its consumer.

        Exits with code 2 if a folder is unusable. A worker that only serves another host's queues (``-Q``) needs no folders.
        """
        app: Any = self.app
        settings: Settings = app.settings
        # of root: it concerns pickled messages, which inboxd refuses, and is no line of a log
        warnings.filterwarnings("ignore", category=SecurityWarning)
        queues = options.get("queues")
        names = queues.split(",") if isinstance(queues, str) else queues
        has_folders = not names or host_queue(settings.host) in names
        self._service_manager = sd_notify.from_environment(os.environ, os.getpid())
        self._context = make_context(settings, self.app)
        self._install_safeguards()  # before handlers are imported: one that connects to Redis makes Kombu cache its transport
        try:
            require_no_problems(settings, folders=has_folders)
        except SettingsError as error:
            sys.stderr.write(f"inboxd can't start:\n{error}\n")
            raise SystemExit(2) from None
        if has_folders:
            share_folders(settings)
        ignore_lease_breaks()
        self._current = CurrentContext(self._context)
        for module in (process_parcel, stage_parcel, callbacks, sweep_tasks):
            module.register(self.app, self._current)
        self._reload = Reloader(self._current, self._service_manager, has_folders=has_folders)
        self._connect_signals()
        self.app.steps["worker"].add(AfterPool)
        super().on_before_init(quiet, **options)

    def _install_safeguards(self) -> None:
        context, settings = self._context, self._context.settings
        registry = WorkerRegistry(context.client, settings.host)
        file = find_settings()
        registration = Registration(context.client, settings, lambda: describe_installation(self._current.get().settings, file))
        self._watchdog = ConsumerWatchdog(
            context.client, settings.work.silent_seconds, service_manager=self._service_manager, registry=registry,
            registration=registration,
        )  # fmt: skip
        self._filter = MessageFilter(context.client, context.leases, self._callable_tasks)
        broadcasts = BroadcastFilter(settings.work.remote_control)
        transport.install_filter(self._filter.accepts, broadcasts.accepts, self._watchdog.record_reply)
        self.app.conf.worker_consumer = partial(
            SteadyConsumer, quarantine_failed=self._filter.quarantine_failed, check_keys=partial(check_keys, context)
        )

    def _callable_tasks(self) -> list[str]:
        """Return the tasks that a message may call: inboxd's and those that handler modules added, none of Celery's own."""
        return [name for name in self.app.tasks if not name.startswith("celery.")]

    def _connect_signals(self) -> None:
        log_settings = self._context.settings.log
        # a stream of its own: in the children, stderr is the handlers' (see handler_output)
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace")

        def set_up_logging(**_kwargs: object) -> None:  # a receiver disables Celery's own setup
            configure_logging(log_settings, program="worker", environment=os.environ, stream=stream)

        signals.setup_logging.connect(set_up_logging, weak=False)
        signals.worker_process_init.connect(self._on_child_start, weak=False)
        signals.worker_shutting_down.connect(self._on_stop_signal, weak=False)
        signals.worker_shutdown.connect(self._on_shutdown, weak=False)

    def on_init_blueprint(self) -> None:
        """Replace Celery's own pool of processes by the guarded one, before Celery makes it.

        A worker of the host's own queue copies files into the store, too, whichever queues it was told to consume.
        """
        super().on_init_blueprint()
        settings, queues = self._context.settings, self.app.amqp.queues
        if settings.stage.url and host_queue(settings.host) in queues.consume_from:
            queues.select_add(stage_queue(settings.host))
        worker: Any = self
        if worker.pool_cls is TaskPool:
            become_subreaper()  # the orphans of a child that was killed are ended by this process
            worker.pool_cls = guarded_pool(self._context.guard)

    def on_pool_started(self) -> None:
        """Start the reloader and the watchdog, and notify readiness, for which Redis need not be available."""
        self._reload.start()  # replaces Celery's own SIGHUP handler, which would re-execute the program
        self._service_manager.extend_watchdog(self._watchdog.check_seconds + blocking_seconds_max(self._context.settings))
        self._service_manager.set_status("connecting to Redis")
        self._service_manager.notify_ready()
        self._watchdog.start()

    def on_consumer_ready(self, consumer: Any) -> None:  # noqa: ANN401 - celery.worker.consumer.Consumer
        """Start watching the consumer, and sweep at once: an earlier worker may have died and left parcels."""
        super().on_consumer_ready(consumer)
        try:
            self._watchdog.watch(consumer)
        except SettingsError as error:
            sys.stderr.write(f"inboxd can't start:\n{error}\n")
            raise SystemExit(2) from None
        with contextlib.suppress(OperationalError):
            # beat counts intervals from its own start: if it restarts often, a rare sweep never becomes due
            for sweep in (SWEEP_STALE, SWEEP_EXPIRED):
                self.app.send_task(sweep, queue=host_queue(self._context.host), ignore_result=True)

    def _on_child_start(self, **_kwargs: object) -> None:
        # `systemctl kill -s HUP` signals children, too. A function, since the handler's subprocesses would inherit SIG_IGN
        signal.signal(signal.SIGHUP, lambda *_: None)
        self._context.guard.start()
        self._context.progress.send_orphaned()

    def _on_stop_signal(self, **_kwargs: object) -> None:
        """Reset the redelivery counts: messages requeued now crashed no worker. In a thread: this is a signal handler."""
        self._service_manager.notify_stopping()
        threading.Thread(target=self._filter.reset_redeliveries, daemon=True).start()

    def _on_shutdown(self, **_kwargs: object) -> None:
        """File the finished parcels, if this worker consumes its host's own queue."""
        if host_queue(self._context.host) in self.app.amqp.queues.consume_from:
            file_finished_parcels(self._current.get())


class AfterPool(bootsteps.StartStopStep):
    """A step that runs after the pool has started and before the consumer, which waits for Redis."""

    requires = (Pool,)

    def start(self, parent: Worker) -> None:
        """Notify the worker."""
        parent.on_pool_started()
