"""Beat's scheduler: it keeps its schedule in no file that could break, and has a duty at each of its ticks."""

from collections.abc import Callable
from typing import Any

import celery.beat
from celery import Celery
from celery.utils.log import get_logger

from spool.notify import Notify
from spool.reloading import renew
from spool.settings import Settings

TICK_SECONDS_MAX = 2.0
"""New settings wait so long at most, once they are asked for."""

_celerys = get_logger("celery.beat")


class Scheduler(celery.beat.Scheduler):
    """Celery's scheduler in memory, which does its ``duty`` even while Redis is away."""

    duty: Callable[[], None] = staticmethod(lambda: None)
    farewell: Callable[[], None] = staticmethod(lambda: None)

    def tick(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - Celery's own signature
        """Send what is due; returns the seconds until the next look."""
        self.duty()
        return min(super().tick(*args, **kwargs), TICK_SECONDS_MAX)

    def reschedule(self) -> None:
        """Take up what the app's schedule says now; when each sweep was last sent is kept."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self._heap = None

    def close(self) -> None:
        """End."""
        self.farewell()
        super().close()

    def _ensure_connected(self) -> Any:  # noqa: ANN401 - as Celery's, which waits for ever and tells nobody meanwhile
        def told(error: Exception, interval: float) -> None:
            _celerys.error("beat: Connection error: %s. Trying again in %s seconds...", error, interval)

        return self.connection.ensure_connection(told, self.app.conf.broker_connection_max_retries, callback=self.duty)


class Duty:
    """What beat does at each tick: it feeds the watchdog, and takes up new settings when it was asked to."""

    def __init__(self, app: Celery, settings: Settings, notify: Notify, schedule: Callable[[Celery, Settings], None]) -> None:
        """``schedule`` puts the settings' intervals into the app."""
        self._app = app
        self._settings = settings
        self._notify = notify
        self._schedule = schedule
        self._asked = False

    def ask(self, *_: object) -> None:
        """Ask for a reload at the next tick: a signal handler."""
        self._asked = True

    def begin(self, scheduler: Scheduler) -> None:
        """Begin to serve."""
        self._scheduler = scheduler
        scheduler.duty, scheduler.farewell = self.do, self._notify.stopping
        self._notify.status(self._words())
        self._notify.ready()

    def do(self) -> None:
        """Do what is to be done at a tick."""
        self._notify.alive()
        if self._asked:
            self._asked = False
            self._reload()

    def _reload(self) -> None:
        self._notify.reloading()
        if change := renew(self._settings, handlers=False, folders=False):
            self._settings = change.settings
            self._schedule(self._app, self._settings)
            self._scheduler.reschedule()
            self._notify.status(self._words())
        self._notify.ready()

    def _words(self) -> str:
        every = self._settings.sweep
        return (
            f"sweeping for what was missed every {every.missed_seconds:g} s, "
            f"stale every {every.stale_seconds:g} s, expired every {every.expired_seconds:g} s"
        )
