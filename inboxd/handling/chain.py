"""A chain as an inbox's handler: several programs, one after the other, with one folder of outputs."""

import hashlib
from collections.abc import Callable
from typing import Any

from inboxd.config.handler_kinds import ProgramKeys
from inboxd.handling.call import Handler, call
from inboxd.messaging.inbox_file import InboxFile, outputs_of


class StepNote(str):
    """A note on an exception: the step of a chain that has raised it."""

    __slots__ = ()


def step_of(error: BaseException) -> str:
    """Return the step of a chain that has raised an exception; "" if it was none."""
    return next((note for note in getattr(error, "__notes__", ()) if isinstance(note, StepNote)), "")


class ChainHandler:
    """Calls each step with the file, from its beginning, and with the outputs of the steps before.

    What the steps have made is kept after each of them, so that the next attempt begins at the one that has failed, unless an
    earlier step has changed in the settings, or the file has.
    """

    def __init__(self, steps: tuple[ProgramKeys, ...], load: Callable[[ProgramKeys], Handler]) -> None:
        self._names = [step.handled_by for step in steps]
        self._handlers = [load(step) for step in steps]
        texts = [step.model_dump_json() for step in steps]
        self._labels = [_digest("\n".join(texts[: number + 1])) for number in range(len(texts) - 1)]

    def __call__(self, file: InboxFile) -> Any:  # noqa: ANN401 - what the last step returns
        """Call the steps that are left to do; return what the last one does. Raises whatever a step raises."""
        run = outputs_of(file)
        first = run.resume(self._labels) if run and file.attempt > 1 else 0
        result = None
        with file._kept_open():  # noqa: SLF001 - inboxd's own, and no method for handlers
            for number in range(first, len(self._handlers)):
                file.seek(0)
                try:
                    result = call(self._handlers[number], file)
                except BaseException as error:
                    error.add_note(StepNote(f"step {number + 1} of {len(self._handlers)}, {self._names[number]}"))
                    raise
                if run and number < len(self._labels):
                    run.checkpoint(self._labels[number])
        return result


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest().encode()
