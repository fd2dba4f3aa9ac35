"""What unit tests share: the real Valkey, and a watcher without one."""

from support.valkey import valkey, valkey_url
from support.watchers import logged, watcher

__all__ = ["logged", "valkey", "valkey_url", "watcher"]
