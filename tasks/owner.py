"""Who works on a parcel: a token that names host and process, so that a death next door is known at once."""

import os
import time


def token(host: str) -> str:
    """Return a token for one attempt of this process."""
    return f"{host}/{os.getpid()}/{time.monotonic_ns()}"


def is_dead(owner: str, host: str) -> bool:
    """Tell whether a token's process is known to be gone: it was on this host, and no process has its number."""
    where, _, rest = owner.rpartition("/")[0].rpartition("/")
    if where != host or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
