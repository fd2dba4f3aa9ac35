"""Validates broadcasts before Kombu sees them: Celery's remote control, which any client of Redis can send.

Kombu 5.7 ends the worker at a broadcast that is a list, that lacks headers, or whose body is not base64; it decompresses
without a limit; and every command is executed, such as ``shutdown``. Here only the commands pass that read, or switch events on
(Flower); with ``work.remote_control = "all"`` every command passes.
"""

from collections.abc import Mapping
from typing import Any, Literal

from celery.worker.control import Panel

from inboxd.errors import InvalidMessage
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import escape
from inboxd.tasks.hardening.message_check import decode_body, parse_message

BROADCAST_BYTES_MAX = 65_536

READING_COMMANDS = frozenset({
    "active", "active_queues", "clock", "conf", "disable_events", "dump_active", "dump_conf", "dump_reserved", "dump_revoked",
    "dump_schedule", "dump_tasks", "enable_events", "heartbeat", "ping", "query_task", "registered", "report", "reserved",
    "revoked", "scheduled", "stats",
})  # fmt: skip
"""The commands that change nothing, but for events; not ``hello``, which brings a list of tasks to discard, nor ``memdump``."""

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "method": str,
    "arguments": (dict, type(None)),
    "destination": (list, tuple, str, type(None)),
    "pattern": (str, type(None)),
    "matcher": (str, type(None)),
    "reply_to": (dict, type(None)),
    "ticket": (str, type(None)),
}
"""The keys that a broadcast may have: Celery passes others on as arguments that nobody takes."""

_log = get_logger(__name__)


class BroadcastFilter:
    """Checks every broadcast that a worker receives, and logs the first refused one of each kind."""

    def __init__(self, remote_control: Literal["read", "all"]) -> None:
        self._commands = frozenset(Panel.data) if remote_control == "all" else READING_COMMANDS
        self._logged: set[str] = set()

    def accepts(self, raw: bytes) -> bool:
        """Return whether the worker may have this broadcast."""
        try:
            self._check(raw)
        except InvalidMessage as error:
            why = str(error)
            if why not in self._logged and len(self._logged) < _LOGGED_MAX:
                self._logged.add(why)
                _log.warning(events.BROADCAST_REFUSED, why=why, remedy=_REMEDY)
            return False
        return True

    def _check(self, raw: bytes) -> None:
        body = decode_body(parse_message(raw, BROADCAST_BYTES_MAX))
        if not isinstance(body, dict) or not body.keys() <= _TYPES.keys():
            raise InvalidMessage("the broadcast is not a map of a command")
        if wrong := next((key for key, value in body.items() if not isinstance(value, _TYPES[key])), None):
            raise InvalidMessage(f"the broadcast's {wrong} has the wrong type")
        if body.get("method") not in self._commands:
            raise InvalidMessage(f"the remote-control command {escape(str(body.get('method')))[:100]} is not allowed")
        _check_reply_address(body.get("reply_to"))


def _check_reply_address(address: Mapping[str, Any] | None) -> None:
    if address is not None and not all(isinstance(address.get(key), str) for key in ("exchange", "routing_key")):
        raise InvalidMessage("the broadcast's reply_to is not an exchange and a routing key")


_LOGGED_MAX = 100
_REMEDY = 'none if nobody needs it; work.remote_control = "all" allows every command'
