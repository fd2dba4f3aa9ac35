"""`inboxd up`: start the server, worker, beat and watcher in one terminal, and stop them together."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from inboxd.broker.connection import broker_url, embedded_socket_path, uses_embedded_server, without_password
from inboxd.config.loading import SETTINGS_VARIABLE
from inboxd.config.settings import Settings
from inboxd.console.output import echo
from inboxd.console.ping import ping_broker
from inboxd.console.up.child_process import OpenOutput, spawn
from inboxd.console.up.embedded_server import EmbeddedServer, find_binary, is_running
from inboxd.console.up.output import collecting
from inboxd.console.up.server_address import ServerAddress, has_listener, is_blocked_by_file, parse_local_address
from inboxd.console.up.state_dir import locked_state_dir, make_private_folder
from inboxd.console.up.stop_signals import StopSignals
from inboxd.console.up.supervisor import Child, Program, StopSteps, Supervisor
from inboxd.errors import Finding, SettingsError
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape
from inboxd.service import preflight
from inboxd.spool import layout

SERVER_START_SECONDS = 10.0
"""Time for a started server to answer, in seconds; a server that is loading its data may take longer."""
POLL_SECONDS = 0.05
COLD_SHUTDOWN: StopSteps = ((signal.SIGQUIT, 5.0),)
"""Celery's cold shutdown: running tasks return to the queue."""
SERVER_STOP: StopSteps = ((signal.SIGTERM, 20.0),)
SERVER_QUICK_STOP: StopSteps = ((signal.SIGTERM, 2.0),)
SINGLE_WORKER_OPTIONS = ("--without-gossip", "--without-mingle")
"""Gossip and mingle synchronize workers; `up` starts only one."""

MakePrograms = Callable[[Settings, Path, OpenOutput | None], Sequence[Program]]

logger = get_logger(__name__)


def programs(settings: Settings, file: Path, open_output: OpenOutput | None = None) -> list[Program]:
    """Return worker, beat and watcher. The last is stopped first, so that no file is claimed while the others stop."""
    environment = {**os.environ, SETTINGS_VARIABLE: str(file)}
    options = [f"--concurrency={settings.work.concurrency}"] if settings.work.concurrency else []

    def program(name: str, *arguments: str, stop: StopSteps = ((signal.SIGTERM, 10.0),)) -> Program:
        argv = [sys.executable, "-P", "-m", *arguments]
        return Program(name, partial(spawn, argv, environment, open_output=open_output), stop)

    celery = ("celery", "-q", "-A", "inboxd")
    worker_stop: StopSteps = ((signal.SIGTERM, settings.work.stop_seconds), *COLD_SHUTDOWN)
    return [
        program("worker", *celery, "worker", *SINGLE_WORKER_OPTIONS, *options, stop=worker_stop),
        program("beat", *celery, "beat"),
        program("watcher", "inboxd.watcher"),
    ]


def up(settings: Settings, file: Path, make_programs: MakePrograms = programs, *, verbose: bool = False) -> int:
    """Start the embedded server, if it is needed, and the other programs; keep them running until a stop signal.

    Return the exit code: 0 after a clean stop, 2 if a program refuses the settings.
    Raises SettingsError, with no program left running, if the settings, the folders or the server are unusable.
    """
    preflight.create_folders(settings)
    preflight.require_no_problems(settings)
    with (
        locked_state_dir(settings),
        collecting(settings, verbose=verbose) as open_output,
        StopSignals() as interrupts,
    ):
        supervisor = Supervisor(interrupts)
        try:
            if server := choose_server(settings):
                program = Program("server", partial(server.start, open_output), SERVER_STOP, SERVER_QUICK_STOP)
                wait_for_server(settings, server, supervisor.start(program), interrupts)
            if not interrupts.count:
                echo(banner(settings))
                for program in make_programs(settings, file, open_output):
                    supervisor.start(program)
            return supervisor.run()
        finally:
            logger.info(events.STOPPING)
            supervisor.stop()
            logger.info(events.STOPPED)


def choose_server(settings: Settings) -> EmbeddedServer | None:
    """Return the embedded server to start, or None to use, or wait for, another one. Raises SettingsError."""
    url = broker_url(settings)
    answer = ping_broker(settings)
    folder = Path(settings.state_dir) / "valkey"
    address = ServerAddress(embedded_socket_path(settings)) if uses_embedded_server(settings) else parse_local_address(url)
    if address is None or (has_listener(address) and not is_running(folder)):
        if answer:
            logger.info(events.BROKER_DISCOVERED, url=without_password(url))
        else:
            logger.warning(
                events.BROKER_UNAVAILABLE, url=without_password(url), why=answer.error, hint="watcher and worker wait for Redis"
            )
        return None
    if is_blocked_by_file(address):
        raise SettingsError([Finding(str(address.socket), "is not a socket", "correct redis.url, or remove the file")])
    make_private_folder(folder)
    if address.socket is not None and uses_embedded_server(settings):
        make_private_folder(Path(address.socket).parent)
    return EmbeddedServer(find_binary(), folder, address)


def wait_for_server(settings: Settings, server: EmbeddedServer, child: Child, interrupts: StopSignals) -> None:
    """Wait until the server answers or a stop signal arrives. Raises SettingsError if it exits or does not answer in time."""
    deadline = time.monotonic() + SERVER_START_SECONDS
    while not interrupts.count:
        answer = ping_broker(settings)
        if answer:
            return
        child.check(time.monotonic())
        is_late = time.monotonic() > deadline and not answer.is_loading
        if child.last_exit or is_late:
            problem = f"did not start: {child.last_exit or answer.error}. {server.last_log_lines()}"
            raise SettingsError([Finding("the embedded server", problem, f"read {server.log}, and correct the cause")])
        interrupts.wait(POLL_SECONDS)


def banner(settings: Settings) -> str:
    """Return the lines that `inboxd up` prints after its start: the broker, and each inbox's folders."""
    lines = ["", f"inboxd is up, with redis at {without_password(broker_url(settings))}"]
    for name, inbox in settings.inbox.items():
        paths = {folder: escape(bytes(inbox.root / os.fsdecode(folder))) for folder in layout.FOLDER_NAMES}
        lines += [
            f"  {name}: drop files into {paths[layout.INBOX]}",
            f"  {' ' * len(name)}  handled files move to {paths[layout.DONE]}",
            f"  {' ' * len(name)}  failed files move to {paths[layout.FAILED]}, each with an error note",
        ]
    return "\n".join([*lines, "Ctrl-C stops inboxd.", ""])
