"""Account for what handlers have made: each output of a file that is done was delivered, or still waits in claimed/."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from inboxd.config.settings import Settings
from inboxd.console.audit.ledger import FileInParcel
from inboxd.console.log_reading.records import Record
from inboxd.fs.names import candidate_names
from inboxd.logs import events
from inboxd.spool.layout import CLAIMED, OUT

NUMBERS_MAX = 1000
"""How many names with a number are looked for, of an output whose delivery no line tells."""


class MissingOutput(NamedTuple):
    """An output that is nowhere: the inbox, the path of its file below inbox/, and its own path below the folder of outputs."""

    inbox: str
    file: str
    output: str


@dataclass(frozen=True, slots=True)
class OutputsBalance:
    """How many outputs of done files were made and delivered, how many wait in claimed/, and which are nowhere."""

    made: int = 0
    delivered: int = 0
    waiting: int = 0
    missing: tuple[MissingOutput, ...] = ()


@dataclass(slots=True)
class OutputLedger:
    """Collects what the log says of outputs."""

    made: dict[FileInParcel, list[str]] = field(default_factory=dict)
    delivered: dict[FileInParcel, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, position: FileInParcel, record: Record) -> None:
        """Add a line about a file."""
        if record.event == events.FILE_HANDLED and isinstance(outputs := record.fields.get("outputs"), list):
            self.made[position] = [str(output) for output in outputs]
        elif record.event == events.OUTPUT_DELIVERED and (filed := record.text("filed")):
            self.delivered[position].add(filed)

    def balance(self, settings: Settings, done: Mapping[FileInParcel, object]) -> OutputsBalance:
        """Return what became of the outputs of files that are done: those of others were removed. Slow if lines are missing."""
        made = delivered = waiting = 0
        missing: list[MissingOutput] = []
        for position in {*self.made, *self.delivered} & done.keys():
            names, logged = self.made.get(position, []), self.delivered.get(position, set())
            made, delivered = made + max(len(names), len(logged)), delivered + len(logged)
            if len(logged) >= len(names):
                continue
            if (Path(settings.inbox[position.inbox].root) / os.fsdecode(CLAIMED) / position.parcel).exists():
                waiting += len(names) - len(logged)
                continue
            lost = list(islice(self._find_lost(settings, position, names, logged), len(names) - len(logged)))
            missing += lost
            delivered += len(names) - len(logged) - len(lost)
        return OutputsBalance(made, delivered, waiting, tuple(missing))

    def _find_lost(
        self, settings: Settings, position: FileInParcel, names: list[str], logged: set[str]
    ) -> Iterator[MissingOutput]:
        """Yield the outputs that are in their folder under no name that they could have got, but under those of other lines."""
        inbox = settings.inbox[position.inbox]
        tops = [Path(settings.output_folder(inbox) or inbox.root / os.fsdecode(OUT))]
        if inbox.next_inbox:  # whose files go on
            root = Path(settings.inbox[inbox.next_inbox].root)
            tops += [root / "done", root / "failed", *(root / os.fsdecode(CLAIMED)).glob("*")]
        taken = {filed for other, paths in self.delivered.items() if other.inbox == position.inbox for filed in paths}
        for name in names:
            folder, _, last = name.rpartition("/")
            candidates = (os.fsdecode(candidate) for candidate in islice(candidate_names(os.fsencode(last)), NUMBERS_MAX))
            paths = [f"{folder}/{candidate}" if folder else candidate for candidate in candidates]
            if not (logged & {*paths}) and not any(
                path not in taken and (top / path).exists() for path in paths for top in tops
            ):
                yield MissingOutput(position.inbox, position.file, name)
