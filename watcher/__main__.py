"""The watcher as a program: settings, signals, loop."""

import signal
import sys
from types import FrameType

from spool import broker, log
from spool.disk import Disk, ignore_lease_breaks
from spool.errors import SettingsError
from spool.intake import Means
from spool.lease import Leases
from spool.loading import load
from spool.payload import Parcel
from spool.preflight import require
from spool.queue import make_app, send
from spool.settings import Inbox
from watcher.daemon import Daemon
from watcher.hints import Hint, Hints, Kind
from watcher.observer import Observer


def main() -> int:
    """Run the watcher until SIGTERM or SIGINT; returns its exit code: 2 for settings or folders that can't be used."""
    try:
        settings = load()
        log.configure(settings.log, program="watcher")
        require(settings, handlers=False)
    except SettingsError as error:
        sys.stderr.write(f"inboxd can't start:\n{error}\n")
        return 2
    ignore_lease_breaks()
    hints = Hints()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        hints.put(Hint(Kind.STOP))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    app = make_app(settings)
    client = broker.client(settings)

    def send_one(parcel: Parcel, inbox: Inbox) -> None:
        send(app, parcel, inbox)

    leases = Leases(client, keep_seconds=2 * settings.redis.visibility_timeout_seconds)
    means = Means(Disk(), leases, send_one, settings.host, settings.sweep.grace_seconds)
    Daemon(settings, means, client, hints, Observer(hints)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
