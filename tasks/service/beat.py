"""`celery beat`: its schedule is the settings', and lies in no file; and it is a service: ready, alive, reloading, stopping."""

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
from inboxd.service import sd_notify
from inboxd.service.reloading import reload_settings
from inboxd.service.sd_notify import ServiceManager
from inboxd.tasks.sweeps.schedule import beat_schedule

TICK_SECONDS_MAX = 2.0
"""New settings wait so long at most, once they are asked for."""

_celerys = get_logger("celery.beat")


class Beat(CelerysBeat):
    """Celery's beat as a service."""

    def init_loader(self) -> None:
        """Prepare to tell the service manager, to log, and to reload."""
        super().init_loader()
        app: Any = self.app
        settings: Settings = app.settings
        self._blocking_seconds = blocking_seconds_max(settings)
        self._service_manager = sd_notify.from_environment(os.environ, os.getpid())
        self._hook = TickHook(app, settings, self._service_manager)
        if not sys.stdout.isatty():
            signal.signal(signal.SIGHUP, self._hook.request_reload)  # at once: what comes before the first tick is done at it

        def set_up_logging(**_kwargs: object) -> None:  # whoever hears this signal keeps Celery from its own
            configure_logging(settings.log, program="beat", environment=os.environ)

        signals.setup_logging.connect(set_up_logging, weak=False)
        signals.beat_init.connect(self._on_start, weak=False)

    def _on_start(self, sender: Any = None, **_kwargs: object) -> None:  # noqa: ANN401 - celery.beat.Service
        self._service_manager.extend_watchdog(self._blocking_seconds)
        gc.collect()  # the transport that Celery's banner was made of, and an open file with it, else stays for minutes
        self._hook.attach(sender.scheduler)


class Scheduler(celery.beat.Scheduler):
    """Celery's scheduler in memory, which does its ``duty`` even while Redis is away."""

    on_tick: Callable[[], None] = staticmethod(lambda: None)
    on_close: Callable[[], None] = staticmethod(lambda: None)

    def tick(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - Celery's own signature
        """Send what is due; returns the seconds until the next look."""
        self.on_tick()
        return min(super().tick(*args, **kwargs), TICK_SECONDS_MAX)

    def reschedule(self) -> None:
        """Take up what the app's schedule says now; when each sweep was last sent is kept."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self._heap = None

    def close(self) -> None:
        """End."""
        self.on_close()
        super().close()

    def _ensure_connected(self) -> Any:  # noqa: ANN401 - as Celery's, which waits for ever and tells nobody meanwhile
        def told(error: Exception, interval: float) -> None:
            _celerys.error("beat: Connection error: %s. Trying again in %s seconds...", error, interval)

        return self.connection.ensure_connection(told, self.app.conf.broker_connection_max_retries, callback=self.on_tick)


class TickHook:
    """What beat does at each tick: it feeds the watchdog, and takes up new settings when it was asked to."""

    def __init__(self, app: Celery, settings: Settings, notify: ServiceManager) -> None:
        self._app = app
        self._settings = settings
        self._service_manager = notify
        self._reload_requested = False

    def request_reload(self, *_: object) -> None:
        """Ask for a reload at the next tick: a signal handler."""
        self._reload_requested = True

    def attach(self, scheduler: Scheduler) -> None:
        """Begin to serve."""
        self._scheduler = scheduler
        scheduler.on_tick, scheduler.on_close = self.run, self._service_manager.notify_stopping
        self._service_manager.set_status(self._describe())
        self._service_manager.notify_ready()

    def run(self) -> None:
        """Do what is to be done at a tick."""
        self._service_manager.ping_watchdog()
        if self._reload_requested:
            self._reload_requested = False
            self._reload()

    def _reload(self) -> None:
        self._service_manager.notify_reloading()
        if change := reload_settings(self._settings, handlers=False, folders=False):
            self._settings = change.settings
            self._app.conf.beat_schedule = beat_schedule(self._settings)
            self._scheduler.reschedule()
            self._service_manager.set_status(self._describe())
        self._service_manager.notify_ready()

    def _describe(self) -> str:
        every = self._settings.sweep
        return (
            f"sweeping for what was missed every {every.missed_seconds:g} s, "
            f"stale every {every.stale_seconds:g} s, expired every {every.expired_seconds:g} s"
        )
