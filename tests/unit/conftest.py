"""Fixtures of all unit tests: a real Valkey server, and a watcher that needs none."""

from support.parts.watchers import logged, watcher
from support.valkey import valkey, valkey_url

__all__ = ["logged", "valkey", "valkey_url", "watcher"]
