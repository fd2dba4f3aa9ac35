"""A program that sends one message: it reads a JSON object from stdin, and prints a list with the error for each URL.

The kernel ends it after DELIVERY_SECONDS, whatever the server at the other end does, and whether or not its parent lives.
"""

import json
import signal
import sys

DELIVERY_SECONDS = 60
"""How long one message may take."""


def main() -> None:
    """Send the message that stdin describes."""
    signal.alarm(DELIVERY_SECONDS)  # its default action ends the process, also within a system call
    task = json.load(sys.stdin)
    from inboxd.notify import apprise_door  # noqa: PLC0415 - the time that the import takes counts

    if task["body"]:
        errors = [apprise_door.send(url, task["title"], task["body"], task["kind"]) for url in task["urls"]]
    else:
        errors = list(map(apprise_door.find_problem, task["urls"]))
    sys.stdout.write(json.dumps(errors) + "\n")


if __name__ == "__main__":
    main()
