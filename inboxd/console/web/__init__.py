"""The page of `inboxd web`: inboxes, failed files and their retry, one file's timeline. Needs the extra inboxd[web]."""
