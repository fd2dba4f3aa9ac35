"""Preflight checks, settings reload, and notifications to the service manager, for each program."""
