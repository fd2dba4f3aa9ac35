"""Reconstruct one file's life from the log, for `inboxd trace`."""
