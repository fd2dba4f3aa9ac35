"""One handler on files, without a server: what `inboxd try` does."""
