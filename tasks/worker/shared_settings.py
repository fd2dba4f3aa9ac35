"""Where each task gets the workshop of now: a reload in the main process reaches its children at their next task."""

import dataclasses
from collections.abc import Iterable

from inboxd.config.settings import Settings
from inboxd.errors import Finding, SettingsError
from inboxd.service.reloading import freeze, thaw
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.slate import Slate


class Shop:
    """Made before the fork. No lock: a child that is forked while one is held would wait for it for ever."""

    def __init__(self, workshop: WorkerContext, slate: Slate | None = None) -> None:
        self._slate = slate or Slate()
        self._latest = 0, workshop

    def now(self) -> WorkerContext:
        """Return the workshop by the latest settings; a task keeps the one that it began with."""
        seen, workshop = self._latest
        if self._slate.number == seen:
            return workshop
        number, text = self._slate.read()
        names, _, frozen = text.partition(b"\n")
        leaving = frozenset(names.decode().split())
        workshop = dataclasses.replace(workshop, settings=thaw(frozen), retiring=leaving)
        self._latest = number, workshop
        return workshop

    def change(self, settings: Settings, leaving: Iterable[str]) -> None:
        """Hand out new settings from now on; inboxes that are ``leaving`` are among theirs. Main process only.

        Raises SettingsError when they are too large.
        """
        try:
            self._slate.write(" ".join(sorted(leaving)).encode() + b"\n" + freeze(settings))
        except ValueError as error:
            raise SettingsError([Finding("settings", str(error), "restart to take up so many inboxes")]) from None
