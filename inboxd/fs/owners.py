"""Names of the users to whom files belong."""

import pwd
import time
from functools import lru_cache

NAME_SECONDS = 60
"""How long a user's name is kept: one lookup for each file would ask a directory service too often."""


def find_owner_name(uid: int) -> str | None:
    """Return the name of a user on this host, None if there is none."""
    return _look_up(uid, int(time.monotonic() // NAME_SECONDS))


@lru_cache(maxsize=1024)
def _look_up(uid: int, _minute: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None
