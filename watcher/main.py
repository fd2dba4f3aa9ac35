"""The watcher program: load the settings, install signal handlers, run the loop."""

import os
import signal
import sys
from dataclasses import replace
from types import FrameType

from inboxd.broker.connection import blocking_seconds_max, make_client, require_own_socket
from inboxd.broker.counters import Counters, Tally
from inboxd.broker.installations import Registration, describe_installation
from inboxd.broker.leases import Leases
from inboxd.config.loading import find_settings, load_settings
from inboxd.config.rules import Inbox
from inboxd.errors import SettingsError
from inboxd.fs.syscalls import Disk, ignore_lease_breaks
from inboxd.intake.intake import IntakeDeps
from inboxd.logs.setup import configure_logging
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.payload import Parcel
from inboxd.messaging.publishing import Publisher
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.monitoring.collector import Collector
from inboxd.service import sd_notify
from inboxd.service.preflight import require_no_problems
from inboxd.service.visibility import share_folders
from inboxd.watcher.daemon import Daemon
from inboxd.watcher.hints import Hint, HintKind, HintQueue
from inboxd.watcher.metrics import MetricsServer
from inboxd.watcher.mount_watchers import MountWatcher, MountWatchers, StampingDisk
from inboxd.watcher.observer import Observer


def main() -> int:
    """Run the watcher until SIGTERM or SIGINT; return the exit code: 0, or 2 if the settings or folders can't be used."""
    manager = sd_notify.from_environment(os.environ, os.getpid())
    try:
        file = find_settings()
        settings = load_settings(file)
        configure_logging(settings.log, program="watcher", environment=os.environ)
        require_no_problems(settings, handlers=False)
        require_own_socket(settings)
    except SettingsError as error:
        sys.stderr.write(f"inboxd can't start:\n{error}\n")
        return 2
    share_folders(settings)
    ignore_lease_breaks()
    manager.extend_watchdog(blocking_seconds_max(settings))
    hints = HintQueue()
    _install_signal_handlers(hints)
    app = make_app(settings)
    client = make_client(settings)
    leases = Leases(client, keep_seconds=2 * settings.redis.visibility_timeout_seconds)
    publisher = Publisher(app, leases, stages=bool(settings.stage.url))

    def send(parcel: Parcel, inbox: Inbox) -> None:
        publisher.publish(parcel, inbox)
        manager.ping_watchdog()  # a turn may send thousands of parcels

    deps = IntakeDeps(
        Disk(), leases, send, settings.host, settings.sweep.grace_seconds, registry=WorkerRegistry(client, settings.host)
    )
    counters = Counters(client, settings.host)

    def make_loop(watcher: MountWatcher) -> Daemon:
        disk = StampingDisk(watcher.stamp)
        own_deps = replace(deps, disk=disk, send=publisher.publish, tally=Tally())
        observer = Observer(watcher.hints)
        return Daemon(
            watcher.settings,
            own_deps,
            client,
            counters,
            watcher.hints,
            observer,
            on_loop=watcher.stamp_loop,
            parts=watcher.parts,
        )

    mounts = MountWatchers(deps.disk, make_loop)
    registration = Registration(client, settings, lambda: describe_installation(daemon.settings, file))
    daemon = Daemon(settings, deps, client, counters, hints, Observer(hints), manager, mounts=mounts, registration=registration)
    endpoint = _start_metrics(daemon)
    try:
        daemon.run()
    except SettingsError as error:
        sys.stderr.write(f"inboxd can't start:\n{error}\n")
        return 2
    finally:
        if endpoint:
            endpoint.stop()
    return 0


def _start_metrics(daemon: Daemon) -> MetricsServer | None:
    """Start the metrics server, with a Redis client of its own, if ``metrics.listen`` is set."""
    settings = daemon.settings
    if not settings.metrics.listen:
        return None
    endpoint = MetricsServer(settings.metrics.listen, Collector(lambda: daemon.settings, make_client(settings), Disk()))
    endpoint.start()
    return endpoint


def _install_signal_handlers(hints: HintQueue) -> None:
    """Convert SIGTERM and SIGINT to STOP hints, SIGHUP to RELOAD."""

    def install(number: signal.Signals, kind: HintKind) -> None:
        def put(_signal: int, _frame: FrameType | None) -> None:
            hints.put(Hint(kind))

        signal.signal(number, put)

    install(signal.SIGTERM, HintKind.STOP)
    install(signal.SIGINT, HintKind.STOP)
    if not sys.stderr.isatty():  # with a terminal, SIGHUP means that the terminal was closed
        install(signal.SIGHUP, HintKind.RELOAD)
