"""What is around a file that is asked about: the broker, the watcher's word, troubles; each asked once, and only if needed."""

from functools import cached_property

import redis

from inboxd.broker.connection import make_client
from inboxd.broker.heartbeat import Heartbeat, InboxReport, read_heartbeat
from inboxd.broker.outages import read_outages
from inboxd.config.settings import Settings
from inboxd.console.ping import ping_broker
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk


class ExplainContext:
    """The programs around one question. ``away`` says why the broker is of no use; then nothing else of it is asked."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.disk = Disk()

    @cached_property
    def client(self) -> redis.Redis:
        """The broker's client."""
        return make_client(self.settings)

    @cached_property
    def broker_error(self) -> str:
        """Why the broker is of no use, "" if it answers. Raises SettingsError for a redis.url that can't be read."""
        return ping_broker(self.settings).error

    @cached_property
    def heartbeat(self) -> Heartbeat | None:
        """The watcher's last word; None if it is silent, or of another version."""
        try:
            return None if self.broker_error else read_heartbeat(self.client, self.settings.host)
        except (BrokerUnavailable, ValueError, KeyError, TypeError):
            return None

    @cached_property
    def outages(self) -> dict[str, str]:
        """Why nothing can be filed, for each inbox of which that is so."""
        try:
            return {} if self.broker_error else read_outages(self.client, self.settings.host, self.settings.inbox)
        except BrokerUnavailable:
            return {}

    def report(self, inbox: str) -> InboxReport | None:
        """How the watcher sees an inbox; None if it does not say."""
        return self.heartbeat.inboxes.get(inbox) if self.heartbeat else None
