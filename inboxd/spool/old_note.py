"""Reads the notes of older versions, in which the reason and the user's options stood in one text, in English."""

import re

from inboxd.spool.failure import FailureKind

_REASON = "Reason: "
_EARLIER = "Before it was put back into inbox/:"
_ITEM = "  - "
_OUTPUT = "  - Nothing, if you know how the file came about. It is not processed again with the others in failed/."
_TRIED = re.compile(r"It was tried (?:once|([0-9]{1,6}) times)\.")
_FAILED_AT = re.compile(r"For the administrator: inbox \S+, (.+)\.")


def parse_old_block(lines: list[str]) -> tuple[str, int, str, list[str], str]:
    """Return a note's reason, attempts, time, earlier failures, and kind: "" if it is not that of a handler's output."""
    reason = next((line.removeprefix(_REASON) for line in lines if line.startswith(_REASON)), "")
    tried_line = next((match for line in lines if (match := _TRIED.fullmatch(line))), None)
    failed_at = next((match[1] for line in lines if (match := _FAILED_AT.fullmatch(line))), "")
    attempts = 0 if tried_line is None else int(tried_line[1] or 1)
    return reason, attempts, failed_at, _parse_earlier(lines), FailureKind.OUTPUT if _OUTPUT in lines else ""


def _parse_earlier(lines: list[str]) -> list[str]:
    if _EARLIER not in lines:
        return []
    rest = lines[lines.index(_EARLIER) + 1 :]
    return [line.removeprefix(_ITEM) for line in rest[: rest.index("") if "" in rest else None]]
