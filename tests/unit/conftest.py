"""What unit tests share: the real Valkey."""

from support.valkey import valkey, valkey_url

__all__ = ["valkey", "valkey_url"]
