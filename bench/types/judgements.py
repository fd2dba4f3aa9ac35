"""What is one type under several names, and who is right where `file` and inboxd disagree."""

ALIASES = {}
"""`file`'s name or an older one: the name that inboxd uses."""

JUDGED: dict[tuple[str, str], tuple[str, str]] = {}
"""(`file`'s answer, inboxd's): (who is right, why)."""
