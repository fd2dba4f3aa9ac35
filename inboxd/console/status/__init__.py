"""The figures and problems that `inboxd status` shows."""
