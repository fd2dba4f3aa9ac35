"""Fixtures of all unit tests: a real Valkey, and a watcher without one."""

from support.parts.watchers import logged, watcher
from support.valkey import valkey, valkey_url

__all__ = ["logged", "valkey", "valkey_url", "watcher"]
