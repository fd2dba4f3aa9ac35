"""The log: the names of its events, and how a line is written."""
