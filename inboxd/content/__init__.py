"""Content types of files, detected from their first bytes and a few bounded reads."""
