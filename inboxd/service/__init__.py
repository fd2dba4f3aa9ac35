"""A program as a service: checks before its start, new settings, and the service manager."""
