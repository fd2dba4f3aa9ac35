"""A real Valkey for the decoders of what lies in it."""

from support.valkey import valkey, valkey_url

__all__ = ["valkey", "valkey_url"]
