"""`inboxd systemd`: install, synchronize, roll back and remove inboxd's systemd services."""
