"""`celery worker`: put together from the settings, guarded, and a service: ready, alive, reloading on SIGHUP, stopping."""

import contextlib
import os
import signal
import sys
import threading
from functools import partial
from typing import Any

from celery import bootsteps, signals
from celery.apps.worker import Worker as CelerysWorker
from celery.worker.components import Pool
from kombu.exceptions import OperationalError

from inboxd.broker.connection import blocking_seconds_max
from inboxd.config.settings import Settings
from inboxd.errors import SettingsError
from inboxd.fs.syscalls import ignore_lease_breaks
from inboxd.logs.setup import configure_logging
from inboxd.messaging.celery_app import EXPIRED, STALE
from inboxd.messaging.queues import host_queue
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.service import sd_notify
from inboxd.service.preflight import require_no_problems
from inboxd.tasks.hardening import transport
from inboxd.tasks.hardening.consumer import SteadyConsumer
from inboxd.tasks.hardening.consumer_watchdog import ConsumerWatchdog
from inboxd.tasks.hardening.message_filter import MessageFilter
from inboxd.tasks.outcomes import callbacks
from inboxd.tasks.service.reload import Reloader
from inboxd.tasks.sweeps import tasks as sweep_tasks
from inboxd.tasks.sweeps.stale import file_finished
from inboxd.tasks.work import process_parcel
from inboxd.tasks.worker.context import make_context
from inboxd.tasks.worker.shared_settings import CurrentContext


class Worker(CelerysWorker):
    """Celery's worker, which knows inboxd's tasks, and survives what Celery's own would not."""

    def on_before_init(self, quiet: bool = False, **options: Any) -> None:  # noqa: ANN401 - Celery's own signature
        """Put the worker together, before its pool and its consumer are made.

        Ends the program, with code 2, on folders that would not work. A worker that only helps another host (``-Q``) need not
        have them.
        """
        app: Any = self.app
        settings: Settings = app.settings
        queues = options.get("queues")
        chosen = queues.split(",") if isinstance(queues, str) else queues
        owns_folders = not chosen or host_queue(settings.host) in chosen
        try:
            require_no_problems(settings, folders=owns_folders)
        except SettingsError as error:
            sys.stderr.write(f"inboxd can't start:\n{error}\n")
            raise SystemExit(2) from None
        ignore_lease_breaks()
        self._service_manager = sd_notify.from_environment(os.environ, os.getpid())
        self._context = make_context(settings, self.app)
        self._current = CurrentContext(self._context)
        for module in (process_parcel, callbacks, sweep_tasks):
            module.register(self.app, self._current)
        self._reload = Reloader(self._current, self._service_manager, folders=owns_folders)
        self._install_guards()
        self._connect_signals()
        self.app.steps["worker"].add(AfterPool)
        super().on_before_init(quiet, **options)

    def _install_guards(self) -> None:
        context, settings = self._context, self._context.settings
        registry = WorkerRegistry(context.client, settings.host)
        self._watchdog = ConsumerWatchdog(
            context.client, settings.work.silent_seconds, service_manager=self._service_manager, registry=registry
        )
        self._filter = MessageFilter(context.client, context.leases, self._callable_tasks)
        transport.install_filter(self._filter.accepts, self._watchdog.record_reply)
        self.app.conf.worker_consumer = partial(SteadyConsumer, quarantine_failed=self._filter.quarantine_failed)

    def _callable_tasks(self) -> list[str]:
        """Return what a message may ask for: our tasks, and those that a handler's module has added; none of Celery's own."""
        return [name for name in self.app.tasks if not name.startswith("celery.")]

    def _connect_signals(self) -> None:
        log_settings = self._context.settings.log

        def set_up_logging(**_kwargs: object) -> None:  # whoever hears this signal keeps Celery from its own
            configure_logging(log_settings, program="worker", environment=os.environ)

        signals.setup_logging.connect(set_up_logging, weak=False)
        signals.worker_process_init.connect(self._on_child_start, weak=False)
        signals.worker_shutting_down.connect(self._on_stop_signal, weak=False)
        signals.worker_shutdown.connect(self._on_shutdown, weak=False)

    def on_pool_started(self) -> None:
        """Be ready: a Redis that is away is no reason not to be."""
        self._reload.start()  # later than Celery's own handler of SIGHUP, which starts another program in our place
        self._service_manager.extend_watchdog(self._watchdog.check_seconds + blocking_seconds_max(self._context.settings))
        self._service_manager.set_status("connecting to Redis")
        self._service_manager.notify_ready()
        self._watchdog.start()

    def on_consumer_ready(self, consumer: Any) -> None:  # noqa: ANN401 - celery.worker.consumer.Consumer
        """Watch over the consumer, and sweep at once: an earlier worker may have died over its parcels."""
        super().on_consumer_ready(consumer)
        self._watchdog.watch(consumer)
        with contextlib.suppress(OperationalError):
            # beat counts from its own start: one that restarts often would never come to the rare sweep
            for sweep in (STALE, EXPIRED):
                self.app.send_task(sweep, queue=host_queue(self._context.host), ignore_result=True)

    def _on_child_start(self, **_kwargs: object) -> None:
        # `systemctl kill -s HUP` sends it to all; a function, which what a handler starts does not inherit
        signal.signal(signal.SIGHUP, lambda *_: None)
        self._context.progress.send_orphaned()

    def _on_stop_signal(self, **_kwargs: object) -> None:
        """Tell that what is put back now has ended no worker. In a thread: a signal handler may have interrupted anything."""
        self._service_manager.notify_stopping()
        threading.Thread(target=self._filter.reset_redeliveries, daemon=True).start()

    def _on_shutdown(self, **_kwargs: object) -> None:
        """Leave nothing finished in claimed/, if the folders are this worker's business."""
        if host_queue(self._context.host) in self.app.amqp.queues.consume_from:
            file_finished(self._current.get())


class AfterPool(bootsteps.StartStopStep):
    """Stands between the pool and the consumer, which waits for Redis."""

    requires = (Pool,)

    def start(self, parent: Worker) -> None:
        """Tell the worker."""
        parent.on_pool_started()
