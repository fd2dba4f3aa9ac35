"""What `inboxd audit` accounts for."""
