"""Logging: the events, the formats, and the systemd journal."""
