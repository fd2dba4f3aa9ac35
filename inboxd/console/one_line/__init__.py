"""One line of a terminal for each file: what `inboxd up` and `inboxd log` show."""
