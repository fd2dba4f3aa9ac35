"""What `inboxd trace` tells: the life of one file, from the log."""
