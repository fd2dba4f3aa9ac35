"""The Celery app of worker and beat, which reads the settings when Celery first needs its configuration, not at import."""

import sys
from functools import cached_property
from typing import Any

from celery import Celery
from celery.loaders.base import BaseLoader

from inboxd.broker.connection import require_own_socket
from inboxd.config.handler_import import append_settings_folder
from inboxd.config.loading import find_settings, load_settings
from inboxd.config.settings import Settings
from inboxd.errors import SettingsError
from inboxd.messaging.celery_app import celery_configuration
from inboxd.tasks.sweeps.schedule import beat_schedule


class Loader(BaseLoader):
    """Loads the settings file, and derives Celery's configuration from it."""

    settings: Settings

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        """Return Celery's configuration, and make handlers importable. Exits with code 2 if the settings are invalid."""
        del env
        try:
            file = find_settings()
            self.settings = load_settings(file)
            require_own_socket(self.settings)
        except SettingsError as error:
            sys.stderr.write(f"inboxd can't start:\n{error}\n")
            raise SystemExit(2) from None
        append_settings_folder(file)
        return {**celery_configuration(self.settings, results=True), "beat_schedule": beat_schedule(self.settings)}


class App(Celery):
    """A Celery app whose ``worker`` and ``beat`` commands run inboxd's classes."""

    @cached_property
    def Worker(self) -> type:  # noqa: N802 - Celery's name
        """The class that ``celery worker`` runs."""
        return self.subclass_with_self("inboxd.tasks.service.worker:Worker")  # type: ignore[arg-type]  # a dotted name

    @cached_property
    def Beat(self) -> type:  # noqa: N802 - Celery's name
        """The class that ``celery beat`` runs."""
        return self.subclass_with_self("inboxd.tasks.service.beat:Beat")  # type: ignore[arg-type]  # a dotted name

    @property
    def settings(self) -> Settings:
        """The settings from which the app was configured."""
        loader: Any = self.loader
        assert loader.conf
        return loader.settings  # type: ignore[no-any-return]


app = App("inboxd", loader=Loader)
