"""The Celery app: ``celery -A tasks.app worker``, ``beat``, ``inspect``, ``flower``. An entry point: it reads the settings."""

import contextlib
import os
import sys
import threading
from typing import Any

from celery import signals
from kombu.exceptions import OperationalError

from spool import broker, log, notify
from spool.disk import ignore_lease_breaks
from spool.errors import SettingsError
from spool.helpers import Helpers
from spool.loading import find, handlers_beside, load
from spool.preflight import require
from spool.queue import EXPIRED, STALE, host_queue, make_app
from spool.settings import Settings
from tasks import callbacks, process, sweeps, transport
from tasks.beat import Duty
from tasks.consumer import SteadyConsumer
from tasks.pulse import Pulse
from tasks.reload import Reload
from tasks.screening import Screen
from tasks.service import serve_as_beat, serve_as_worker
from tasks.shop import Shop
from tasks.workshop import build


def _settings() -> Settings:
    try:
        handlers_beside(find())
        return load()
    except SettingsError as error:
        sys.exit(_refusal(error))


def _refusal(error: SettingsError) -> int:
    sys.stderr.write(f"inboxd can't start:\n{error}\n")
    return 2


_manager = notify.take(os.environ, os.getpid())
settings = _settings()
app = make_app(settings, results=True)
_workshop = build(settings, app)
_shop = Shop(_workshop)
for _tasks in (process, callbacks, sweeps):
    _tasks.register(app, _shop)
sweeps.schedule_with(app, settings)
_pulse = Pulse(
    _workshop.client, settings.work.silent_seconds, notify=_manager, helpers=Helpers(_workshop.client, settings.host)
)
_reload = Reload(_shop, _manager)
if "beat" in sys.argv:
    serve_as_beat(Duty(app, settings, _manager, sweeps.schedule_with), _manager, broker.silence_seconds(settings))
else:
    serve_as_worker(app, _manager, _pulse, _reload, _workshop.progress, broker.silence_seconds(settings))


def _callable_tasks() -> list[str]:
    """Return what a message may ask for: our tasks, and those that a handler's module has added; none of Celery's own."""
    return [name for name in app.tasks if not name.startswith("celery.")]


_screen = Screen(_workshop.client, _workshop.leases, _callable_tasks)
transport.install(_screen.passes, _pulse.beat)
SteadyConsumer.set_aside = _screen.stumbled


@signals.setup_logging.connect
def _log_our_way(**_kwargs: object) -> None:
    """Keep Celery from setting up logging of its own."""
    program = "beat" if "beat" in sys.argv else "worker"
    log.configure(settings.log, program=program, environment=os.environ)


@signals.worker_ready.connect
def _look_after_what_was_left(sender: Any = None, **_kwargs: object) -> None:  # noqa: ANN401 - the worker's consumer
    """Sweep at once: an earlier worker may have died over its parcels. And watch over this one."""
    _pulse.watch(sender)
    with contextlib.suppress(OperationalError):
        # beat counts from its own start: one that restarts often would never come to the rare sweep
        for sweep in (STALE, EXPIRED):
            app.send_task(sweep, queue=host_queue(settings.host), ignore_result=True)


@signals.worker_shutting_down.connect
def _blame_nobody(**_kwargs: object) -> None:
    """Tell that what is put back now has ended no worker. In a thread: a signal handler may have interrupted anything."""
    threading.Thread(target=_screen.forgive, daemon=True).start()


@signals.worker_shutdown.connect
def _file_what_is_finished(**_kwargs: object) -> None:
    """Leave nothing finished in claimed/, if the folders are this worker's business."""
    if host_queue(settings.host) in app.amqp.queues.consume_from:
        sweeps.file_finished(_shop.now())


@signals.celeryd_init.connect
def _before_the_worker_starts(options: dict[str, Any] | None = None, **_kwargs: object) -> None:
    """Refuse to start on folders that would not work. A worker that only helps another host (-Q) need not have them."""
    queues = (options or {}).get("queues")
    chosen = queues.split(",") if isinstance(queues, str) else queues
    _reload.folders = not chosen or host_queue(settings.host) in chosen
    try:
        require(settings, folders=_reload.folders)
    except SettingsError as error:
        sys.exit(_refusal(error))
    ignore_lease_breaks()
