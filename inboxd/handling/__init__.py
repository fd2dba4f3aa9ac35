"""Runs a handler on one file."""
