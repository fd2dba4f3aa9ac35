"""A new project: what `inboxd init` writes."""
