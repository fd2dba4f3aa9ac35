"""What `inboxd up` runs: a server if there is none, the programs, and their supervisor."""
