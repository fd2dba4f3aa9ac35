"""`celery beat` as a service, with readiness, watchdog and reload; the settings are its schedule, and no file stores it."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import celery.beat
from celery import Celery, signals
from celery.apps.beat import Beat as CelerysBeat
from celery.utils.log import get_logger

from inboxd.broker.connection import blocking_seconds_max
from inboxd.config.settings import Settings
from inboxd.logs.setup import configure_logging
from inboxd.notify.background import BackgroundNotifier
from inboxd.service import sd_notify
from inboxd.service.reloading import reload_settings
from inboxd.service.sd_notify import ServiceNotifier
from inboxd.tasks.sweeps.schedule import beat_schedule

TICK_SECONDS_MAX = 2.0
"""Maximum time between ticks, and so the maximum delay of a requested reload."""

_celerys = get_logger("celery.beat")


class Beat(CelerysBeat):
    """Celery's beat as a service."""

    def init_loader(self) -> None:
        """Prepare logging, service notifications and the reload on SIGHUP."""
        super().init_loader()
        app: Any = self.app
        settings: Settings = app.settings
        self._blocking_seconds = blocking_seconds_max(settings)
        self._service_manager = sd_notify.from_environment(os.environ, os.getpid())
        self._hook = TickHook(app, settings, self._service_manager)
        if not sys.stdout.isatty():
            signal.signal(signal.SIGHUP, self._hook.request_reload)  # early: a SIGHUP before the first tick takes effect at it

        def set_up_logging(**_kwargs: object) -> None:  # a receiver disables Celery's own setup
            configure_logging(settings.log, program="beat", environment=os.environ)

        signals.setup_logging.connect(set_up_logging, weak=False)
        signals.beat_init.connect(self._on_start, weak=False)

    def install_sync_handler(self, service: Any) -> None:  # noqa: ANN401 - celery.beat.Service
        """Stop at SIGTERM and SIGINT; not within a call to Redis, in which redis-py would lose the exception."""
        scheduler: Scheduler = service.scheduler

        def stop(_signal: int, _frame: object) -> None:
            scheduler.is_stopping = True
            if not scheduler.is_ticking:
                raise SystemExit

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def _on_start(self, sender: Any = None, **_kwargs: object) -> None:  # noqa: ANN401 - celery.beat.Service
        self._service_manager.extend_watchdog(self._blocking_seconds)
        gc.collect()  # else the transport that Celery's banner used keeps a descriptor open for minutes
        self._hook.attach(sender.scheduler)


class Scheduler(celery.beat.Scheduler):
    """Celery's in-memory scheduler, which calls ``on_tick`` at each tick, and also while it waits for Redis."""

    on_tick: Callable[[], None] = staticmethod(lambda: None)
    on_close: Callable[[], None] = staticmethod(lambda: None)
    is_ticking = is_stopping = False

    def tick(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - Celery's own signature
        """Send the tasks that are due; return the seconds until the next tick. Raises SystemExit if a stop was requested."""
        self.on_tick()
        self.is_ticking = True
        try:
            seconds = min(super().tick(*args, **kwargs), TICK_SECONDS_MAX)
        finally:
            self.is_ticking = False
        self._stop_if_requested()
        return seconds

    def _stop_if_requested(self) -> None:
        if self.is_stopping:
            raise SystemExit

    def reschedule(self) -> None:
        """Adopt the app's current schedule; the time at which each sweep was last sent is kept."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self._heap = None

    def close(self) -> None:
        """Call ``on_close``, then close."""
        self.on_close()
        super().close()

    def _ensure_connected(self) -> Any:  # noqa: ANN401 - Celery's own, plus ``on_tick`` while it waits
        def log_error(error: Exception, interval: float) -> None:
            _celerys.error("beat: Connection error: %s. Trying again in %s seconds...", error, interval)

        def between_tries() -> None:
            self.on_tick()
            self._stop_if_requested()

        return self.connection.ensure_connection(log_error, self.app.conf.broker_connection_max_retries, callback=between_tries)


class TickHook:
    """Beat's duties at each tick: ping the watchdog, and reload the settings if that was requested.

    Beat also tells people what has happened, in a thread: it runs no handler, which could read the URLs' passwords.
    """

    def __init__(self, app: Celery, settings: Settings, service_manager: ServiceNotifier) -> None:
        self._app = app
        self._settings = settings
        self._service_manager = service_manager
        self._reload_requested = False
        self._notifier = BackgroundNotifier(settings, os.environ)

    def request_reload(self, *_: object) -> None:
        """Request a reload at the next tick; a signal handler."""
        self._reload_requested = True

    def attach(self, scheduler: Scheduler) -> None:
        """Run at each tick of this scheduler from now on, and notify readiness."""
        self._scheduler = scheduler
        scheduler.on_tick, scheduler.on_close = self.run, self._close
        self._service_manager.set_status(self._describe())
        self._service_manager.notify_ready()
        self._notifier.start()

    def run(self) -> None:
        """Ping the watchdog, and reload the settings if requested."""
        self._service_manager.ping_watchdog()
        if self._reload_requested:
            self._reload_requested = False
            self._reload()

    def _reload(self) -> None:
        self._service_manager.notify_reloading()
        if change := reload_settings(self._settings, handlers=False, folders=False):
            self._settings = change.settings
            self._notifier.apply(change.settings)
            self._app.conf.beat_schedule = beat_schedule(self._settings)
            self._scheduler.reschedule()
            self._service_manager.set_status(self._describe())
        self._service_manager.notify_ready()

    def _close(self) -> None:
        self._service_manager.notify_stopping()
        self._notifier.stop()

    def _describe(self) -> str:
        sweep = self._settings.sweep
        return (
            f"sweeping for missed files every {sweep.missed_seconds:g} s, "
            f"stale parcels every {sweep.stale_seconds:g} s, expired files every {sweep.expired_seconds:g} s"
        )
