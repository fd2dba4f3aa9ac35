"""A worker, or beat, as a service: ready, alive, reloading on SIGHUP, stopping, by Celery's own signals and steps."""

import gc
import signal
import sys
from typing import Any

from celery import Celery, bootsteps, signals
from celery.worker.components import Pool

from spool.notify import Notify
from tasks.beat import Duty
from tasks.progress import Progress
from tasks.pulse import Pulse
from tasks.reload import Reload


def serve_as_worker(
    app: Celery, notify: Notify, pulse: Pulse, reload: Reload, progress: Progress, silence_seconds: float
) -> None:
    """Have the app's worker tell the service manager about itself; ``silence_seconds`` is how long Redis may hold it up."""

    class Ready(bootsteps.StartStopStep):
        """Stands between the pool and the consumer: a Redis that is away is no reason not to be ready."""

        requires = (Pool,)

        def start(self, _parent: object) -> None:
            reload.listen()  # later than Celery's own handler of SIGHUP, which starts another program in our place
            notify.bear(pulse.look_seconds + silence_seconds)
            notify.status("connecting to Redis")
            notify.ready()
            pulse.attend()

    app.steps["worker"].add(Ready)

    def shutting_down(**_kwargs: object) -> None:
        notify.stopping()

    def in_a_child(**_kwargs: object) -> None:
        # `systemctl kill -s HUP` sends it to all; a function, which what a handler starts does not inherit
        signal.signal(signal.SIGHUP, lambda *_: None)
        progress.begin()

    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_process_init.connect(in_a_child, weak=False)


def serve_as_beat(duty: Duty, notify: Notify, silence_seconds: float) -> None:
    """Have beat tell the service manager about itself. Main thread only."""
    if not sys.stdout.isatty():
        signal.signal(signal.SIGHUP, duty.ask)  # at once: what comes before the first tick is done at it

    def begin(sender: Any = None, **_kwargs: object) -> None:  # noqa: ANN401 - celery.beat.Service
        notify.bear(silence_seconds)
        gc.collect()  # the transport that Celery's banner was made of, and an open file with it, else stays for minutes
        duty.begin(sender.scheduler)

    signals.beat_init.connect(begin, weak=False)
