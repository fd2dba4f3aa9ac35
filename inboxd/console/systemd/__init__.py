"""inboxd as systemd services: installing, syncing, removing."""
