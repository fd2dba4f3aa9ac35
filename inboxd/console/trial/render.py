"""Says what became of a tried file, and what would become of it if it were dropped. Pure."""

from collections.abc import Iterator

from inboxd.config.rules import Inbox
from inboxd.console.trial.trial import Trial
from inboxd.logs.text import bytes_in_words, count_in_words, escape, shorten
from inboxd.messaging.outcome import Verdict

RESULT_CHARS_MAX = 500
LINES_MAX = 50
"""Maximum number of a handler's lines that are shown for a file."""


def would_be_done(trial: Trial, inbox: Inbox) -> bool:
    """Return whether the file would go to done/."""
    return trial.verdict is Verdict.DONE and not trial.is_gone and (not trial.is_changed or inbox.ignore_changes)


def render_trial(path: str, trial: Trial, inbox: Inbox, crashes_max: int) -> Iterator[str]:
    """Yield the lines on one file: what its handler printed, its result, its time, and what would become of the file."""
    yield escape(path)
    if trial.output is not None:
        yield from _render_output(trial.output.text, trial.output.bytes_left_out)
    if trial.verdict is Verdict.DONE:
        yield f"  result: {_render_result(trial)}"
    for name, size in trial.outputs[:LINES_MAX]:
        yield f"  output: {escape(shorten(name, RESULT_CHARS_MAX))}, {bytes_in_words(size)}"
    if len(trial.outputs) > LINES_MAX:
        yield f"  output: … {len(trial.outputs) - LINES_MAX} more"
    if trial.seconds is not None:
        yield f"  time:   {trial.seconds:.3f} s"
    if trial.left:
        names = shorten(", ".join(map(escape, trial.left)), RESULT_CHARS_MAX)
        yield f"  left:   {names}; what a handler leaves is filed beside its file"
    yield f"  file:   {foretell(trial, inbox, crashes_max)}"


def foretell(trial: Trial, inbox: Inbox, crashes_max: int) -> str:
    """Return where the file would go, and why."""
    if trial.is_gone:
        return "would be lost: the handler has deleted or moved it; leave the file, inboxd moves it"
    if trial.is_changed and not inbox.ignore_changes and trial.verdict in (Verdict.DONE, Verdict.REJECTED):
        return (
            f"would go back to inbox/, and after {inbox.changes_max} changes to failed/: the handler has changed it; "
            "write to a copy, or set ignore_changes = true"
        )
    match trial.verdict:
        case Verdict.DONE:
            return "would go to done/"
        case Verdict.REJECTED:
            return f"would go to failed/ at once: {trial.reason}"
        case None:
            return f"would go to failed/ once this has happened {count_in_words(crashes_max)}: {trial.reason}"
        case _:
            return f"would go to failed/{_describe_retries(inbox)}: {trial.reason}"


def _describe_retries(inbox: Inbox) -> str:
    if not inbox.retries:
        return " at once, since retries = 0"
    delays = [f"{inbox.retry_delay(retry):g}" for retry in range(min(inbox.retries, 5))]
    more = ", …" if inbox.retries > len(delays) else ""
    return f" after {inbox.retries} {'retry' if inbox.retries == 1 else 'retries'} ({', '.join(delays)}{more} s later)"


def _render_result(trial: Trial) -> str:
    if trial.discarded:
        return f"of type {trial.discarded}, which is not kept: up to 4096 bytes of text, numbers, lists and maps are"
    return shorten(trial.result or "", RESULT_CHARS_MAX)


def _render_output(text: bytes, bytes_left_out: int) -> Iterator[str]:
    lines = text.decode("utf-8", "backslashreplace").splitlines()
    yield from (f"  | {shorten(line, RESULT_CHARS_MAX)}" for line in lines[:LINES_MAX])
    if len(lines) > LINES_MAX or bytes_left_out:
        more_bytes = f", and then {bytes_left_out} bytes" if bytes_left_out else ""
        yield f"  | … {max(len(lines) - LINES_MAX, 0)} more lines{more_bytes}"
