"""The state around a file: the broker, the watcher's heartbeat and the outages; each is read once, and only if needed."""

from functools import cached_property

import redis

from inboxd.broker.connection import make_client
from inboxd.broker.heartbeat import Heartbeat, InboxReport, read_heartbeat
from inboxd.broker.inbox_outages import read_inbox_outages
from inboxd.config.settings import Settings
from inboxd.console.ping import ping_broker
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk


class ExplainContext:
    """What the explanations of one path need besides the folders. If ``broker_error`` is set, Redis is not queried further."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.disk = Disk()

    @cached_property
    def client(self) -> redis.Redis:
        """The broker's client."""
        return make_client(self.settings)

    @cached_property
    def broker_error(self) -> str:
        """Why the broker is unavailable, "" if it answers. Raises SettingsError for an invalid redis.url."""
        return ping_broker(self.settings).error

    @cached_property
    def heartbeat(self) -> Heartbeat | None:
        """The watcher's latest heartbeat; None if it has expired, or another version wrote it."""
        try:
            return None if self.broker_error else read_heartbeat(self.client, self.settings.host)
        except (BrokerUnavailable, ValueError, KeyError, TypeError):
            return None

    @cached_property
    def outages(self) -> dict[str, str]:
        """The recorded outages: for each affected inbox, why nothing can be filed."""
        try:
            return {} if self.broker_error else read_inbox_outages(self.client, self.settings.host, self.settings.inbox)
        except BrokerUnavailable:
            return {}

    def report(self, inbox: str) -> InboxReport | None:
        """Return the watcher's report on an inbox, None if there is none."""
        return self.heartbeat.inboxes.get(inbox) if self.heartbeat else None
