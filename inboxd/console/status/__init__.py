"""What `inboxd status` shows."""
