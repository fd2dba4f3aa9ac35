"""The notifier's thread, which holds up nobody: it is a daemon, and a stop ends the program that is sending."""

import threading
from collections.abc import Mapping

from inboxd.broker.connection import make_client
from inboxd.config.settings import Settings
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.notify.addresses import is_configured
from inboxd.notify.conditions import Conditions
from inboxd.notify.notifier import Notifier
from inboxd.notify.sender import Sender

TURN_SECONDS = 5.0
"""Interval of the turns."""

_TASKS_REMEDY = "raise TasksMax of beat's service, then restart it"

_log = get_logger(__name__)


class BackgroundNotifier:
    """Takes turns in a thread, from ``start`` to ``stop``, as long as the settings name somebody to notify."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self._stopped = threading.Event()
        self._sender = Sender()
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
        self._error = ""

    @property
    def is_running(self) -> bool:
        """Whether turns are taken."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, if there is something to do for it and it does not run yet."""
        if self._thread.ident is None and is_configured(self._settings, self._environment):
            try:
                self._thread.start()
            except RuntimeError as error:  # the limit of the service's tasks
                _log.error(events.NOTIFIER_FAILING, error=str(error), remedy=_TASKS_REMEDY)

    def apply(self, settings: Settings) -> None:
        """Use other settings from the next turn on."""
        self._settings = settings
        self.start()

    def stop(self) -> None:
        """Stop within a moment, whatever a server at the other end does."""
        self._stopped.set()
        self._sender.stop()

    def _run(self) -> None:
        with make_client(self._settings) as client:
            notifier = Notifier(Disk(), Conditions(Disk(), client), self._sender.send, self._environment)
            while not self._stopped.is_set():
                self._take_turn(notifier)
                self._stopped.wait(min(TURN_SECONDS, self._settings.notify.every))

    def _take_turn(self, notifier: Notifier) -> None:
        """Take a turn; an unexpected error is logged once, and the next turn follows."""
        try:
            notifier.take_turn(self._settings)
            self._error = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, files matter more
            if self._stopped.is_set() or repr(error) == self._error:
                return
            self._error = repr(error)
            _log.exception(events.NOTIFIER_FAILING, remedy="report this error: the next turn is in a few seconds")
