"""Everything in one terminal: what `inboxd up` starts, and in which order."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from inboxd.broker.connection import broker_url, embedded_socket_path, uses_embedded_server, without_password
from inboxd.config.loading import SETTINGS_VARIABLE
from inboxd.config.settings import Settings
from inboxd.console.ping import ask
from inboxd.console.up.child_process import spawn
from inboxd.console.up.embedded_server import Server, find_binary, is_ours_and_runs
from inboxd.console.up.interrupts import Interrupts
from inboxd.console.up.server_address import Address, is_listened_on, is_taken_by_a_file, startable
from inboxd.console.up.state_dir import make_private, only_one_up
from inboxd.console.up.supervisor import Child, Program, Steps, Supervisor
from inboxd.errors import Finding, SettingsError
from inboxd.logs import events
from inboxd.logs.setup import configure_logging, get_logger
from inboxd.logs.text import escape
from inboxd.service import preflight
from inboxd.spool import layout

ANSWER_SECONDS = 10.0
"""A server that is started answers within this, or never does; one that reads its data in may take longer."""
COLD_STOP: Steps = ((signal.SIGQUIT, 5.0),)
"""Celery's way to stop at once: what runs is put back into the queue."""
SERVER_STOP: Steps = ((signal.SIGTERM, 20.0),)
SERVER_HURRY: Steps = ((signal.SIGTERM, 2.0),)

ALONE = ("--without-gossip", "--without-mingle")
"""One worker on one host has no neighbours to ask, and nothing to tell them."""

logger = get_logger(__name__)


def programs(settings: Settings, file: Path) -> list[Program]:
    """Return what runs beside the server. The last is stopped first: nothing new is taken in while the rest ends."""
    environment = {**os.environ, SETTINGS_VARIABLE: str(file)}
    workers = [f"--concurrency={settings.work.concurrency}"] if settings.work.concurrency else []

    def program(name: str, *arguments: str, stop: Steps = ((signal.SIGTERM, 10.0),)) -> Program:
        return Program(name, partial(spawn, [sys.executable, "-P", "-m", *arguments], environment), stop)

    celery = ("celery", "-q", "-A", "inboxd")
    patience: Steps = ((signal.SIGTERM, settings.work.stop_seconds), *COLD_STOP)
    return [
        program("worker", *celery, "worker", *ALONE, *workers, stop=patience),
        program("beat", *celery, "beat"),
        program("watcher", "inboxd.watcher"),
    ]


def up(settings: Settings, file: Path, others: Callable[[Settings, Path], Sequence[Program]] = programs) -> int:
    """Start the server, if it is ours to start, and the other programs; keep them running until a stop signal.

    Returns the exit code: 0 after a clean stop, 2 when a program refuses the settings.
    Raises SettingsError for what is wrong before; nothing runs then.
    """
    preflight.make_folders(settings)
    preflight.require(settings)
    configure_logging(settings.log, program="up", environment=os.environ)
    with only_one_up(settings), Interrupts() as interrupts:
        supervisor = Supervisor(interrupts)
        try:
            if server := server_to_start(settings):
                program = Program("server", server.start, SERVER_STOP, SERVER_HURRY)
                await_answer(settings, server, supervisor.start(program), interrupts)
            if not interrupts.stops:
                click.echo(banner(settings))
                for program in others(settings, file):
                    supervisor.start(program)
            return supervisor.run()
        finally:
            logger.info(events.STOPPING)
            supervisor.stop()
            logger.info(events.STOPPED)


def server_to_start(settings: Settings) -> Server | None:
    """Decide whose server is used: return ours, or None when another is used or waited for. Raises SettingsError."""
    url = broker_url(settings)
    answer = ask(settings)
    folder = Path(settings.state_dir) / "valkey"
    address = Address(embedded_socket_path(settings)) if uses_embedded_server(settings) else startable(url)
    if address is None or (is_listened_on(address) and not is_ours_and_runs(folder)):
        if answer:
            logger.info(events.BROKER_FOUND, url=without_password(url))
        else:
            logger.warning(events.BROKER_AWAY, url=without_password(url), why=answer.why, hint="watcher and worker wait for it")
        return None
    if is_taken_by_a_file(address):
        raise SettingsError([Finding(str(address.socket), "is not a socket", "correct redis.url, or move it away")])
    make_private(folder)
    if address.socket is not None and uses_embedded_server(settings):
        make_private(Path(address.socket).parent)
    return Server(find_binary(), folder, address)


def await_answer(settings: Settings, server: Server, child: Child, interrupts: Interrupts) -> None:
    """Wait until our server answers, or a stop signal comes. Raises SettingsError when it ended, or stays silent."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while not interrupts.stops:
        answer = ask(settings)
        if answer:
            return
        child.tend(time.monotonic())
        late = time.monotonic() > deadline and not answer.loading
        if child.why or late:
            problem = f"did not start: {child.why or answer.why}. {server.last_words()}"
            raise SettingsError([Finding("the embedded server", problem, f"read {server.log}, and mend what it says")])
        interrupts.wait(0.05)


def banner(settings: Settings) -> str:
    """Return what a person who has just typed `inboxd up` wants to know."""
    lines = ["", f"inboxd is up, with redis at {without_password(broker_url(settings))}"]
    for name, inbox in settings.inbox.items():
        places = {folder: escape(bytes(inbox.root / os.fsdecode(folder))) for folder in layout.FOLDER_NAMES}
        lines += [
            f"  {name}: drop files into {places[layout.INBOX]}",
            f"  {' ' * len(name)}  they end in {places[layout.DONE]}",
            f"  {' ' * len(name)}  or, with a note that says why, in {places[layout.FAILED]}",
        ]
    return "\n".join([*lines, "Ctrl-C stops it.", ""])
