"""inboxd as systemd services: installing, syncing, taking away."""
