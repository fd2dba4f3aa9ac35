"""The watcher as a program: settings, signals, loop."""

import os
import signal
import sys
from types import FrameType

from spool import broker, log, notify
from spool.counters import Counters
from spool.disk import Disk, ignore_lease_breaks
from spool.errors import SettingsError
from spool.health import Health
from spool.helpers import Helpers
from spool.intake import Means
from spool.lease import Leases
from spool.loading import load
from spool.payload import Parcel
from spool.preflight import require
from spool.queue import make_app, send
from spool.settings import Inbox
from watcher.daemon import Daemon
from watcher.hints import Hint, Hints, Kind
from watcher.metrics import Endpoint
from watcher.observer import Observer


def main() -> int:
    """Run the watcher until SIGTERM or SIGINT; returns its exit code: 2 for settings or folders that can't be used."""
    manager = notify.take(os.environ, os.getpid())
    try:
        settings = load()
        log.configure(settings.log, program="watcher", environment=os.environ)
        require(settings, handlers=False)
    except SettingsError as error:
        sys.stderr.write(f"inboxd can't start:\n{error}\n")
        return 2
    ignore_lease_breaks()
    manager.bear(broker.silence_seconds(settings))
    hints = Hints()
    _listen(hints)
    app = make_app(settings)
    client = broker.client(settings)

    def send_one(parcel: Parcel, inbox: Inbox) -> None:
        send(app, parcel, inbox)
        manager.alive()  # a turn may send thousands

    leases = Leases(client, keep_seconds=2 * settings.redis.visibility_timeout_seconds)
    means = Means(Disk(), leases, send_one, settings.host, settings.sweep.grace_seconds, helpers=Helpers(client, settings.host))
    counters = Counters(client, settings.host)
    daemon = Daemon(settings, means, client, counters, hints, Observer(hints), manager)
    endpoint = _endpoint(daemon)
    daemon.run()
    if endpoint:
        endpoint.stop()
    return 0


def _endpoint(daemon: Daemon) -> Endpoint | None:
    """Serve the figures, if the settings say where; from a thread, and with a client of its own."""
    settings = daemon.settings
    if not settings.metrics.listen:
        return None
    endpoint = Endpoint(settings.metrics.listen, Health(lambda: daemon.settings, broker.client(settings), Disk()).metrics)
    endpoint.start()
    return endpoint


def _listen(hints: Hints) -> None:
    """Turn signals into hints."""

    def on(number: signal.Signals, kind: Kind) -> None:
        def put(_signal: int, _frame: FrameType | None) -> None:
            hints.put(Hint(kind))

        signal.signal(number, put)

    on(signal.SIGTERM, Kind.STOP)
    on(signal.SIGINT, Kind.STOP)
    if not sys.stderr.isatty():  # on a terminal it says that the terminal is gone
        on(signal.SIGHUP, Kind.RELOAD)


if __name__ == "__main__":
    sys.exit(main())
