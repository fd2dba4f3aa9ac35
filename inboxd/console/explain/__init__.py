"""What `inboxd explain` finds out about a path."""
