"""A drill's ledger: what became of each file, how often the handler saw it and why, and how long each fault was felt."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path

from faults import Fault
from support.live.stand import Stand

from inboxd.fs.names import candidate_names

SETTLED_SECONDS = 90.0
"""All must be filed so long after the last fault."""

CALLS = "calls.jsonl"
"""What the drill's handler writes down."""

NOTE = b".error.txt"
OF_REDIS = ("FLUSHALL", "kill -9 server", "server full", "SIGSTOP server", "CLIENT KILL")
"""What may make Redis forget an outcome, or keep it from being stored; the likeliest first."""

NO_CAUSE = "none that we know of"
WELL = ("describe", "sleep", "reject")
"""The kinds of files whose handler says its word at the first call."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file as dropped; contents are unique, so its SHA-256 names it. ``end`` is the folder where it must arrive."""

    sha256: str
    name: bytes
    kind: str
    end: str
    at: float


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the handler; ``ending`` is "returned", "raised", or "" if its process died."""

    sha256: str
    id: str
    pid: int
    parcel: str
    at: float
    ending: str


@dataclass(frozen=True, slots=True)
class Again:
    """A file that the handler saw again though it had not raised, and the fault between the two calls."""

    file: Dropped
    first: Call
    second: Call
    cause: str


class Ledger:
    """The figures of one drill, from what lies in the folders and what the handler wrote down."""

    def __init__(self, stand: Stand, dropped: Sequence[Dropped], faults: Sequence[Fault], calls: Path) -> None:
        self.dropped = {file.sha256: file for file in dropped}
        self.faults = faults
        self.calls = _read(calls)
        self.lying = {folder: stand.tree(folder) for folder in ("done", "failed", "inbox", "claimed")}
        self.filed_at = {sha: stand.path(folder, name).stat().st_ctime for folder, name, sha in self._filed()}

    def _filed(self) -> Iterator[tuple[str, bytes, str]]:
        """Yield folder, path and content of what is in done/ and failed/, without the notes."""
        for folder in ("done", "failed"):
            for name, sha in self.lying[folder].items():
                if not (folder == "failed" and name.endswith(NOTE)):
                    yield folder, name, sha

    @cached_property
    def copies(self) -> Counter[str]:
        """How often each content lies anywhere."""
        left = (sha for folder in ("inbox", "claimed") for sha in self.lying[folder].values())
        return Counter([*(sha for _, _, sha in self._filed()), *left])

    @cached_property
    def missing(self) -> list[Dropped]:
        """Files whose content lies nowhere."""
        return [file for sha, file in self.dropped.items() if not self.copies[sha]]

    @cached_property
    def by_name(self) -> dict[tuple[str, bytes], list[Dropped]]:
        """The files that were dropped under one name and end in one folder, the first first."""
        found: dict[tuple[str, bytes], list[Dropped]] = defaultdict(list)
        for file in self.dropped.values():
            found[file.end, file.name].append(file)
        return found

    @cached_property
    def wrong(self) -> dict[str, list[object]]:
        """What must not be: by its name in the ledger, the cases."""
        changed = [(folder, name) for folder, name, sha in self._filed() if sha not in self.dropped]
        bad_names = {name for _, name in changed}
        shared = [file for file in self.missing if len(self.by_name[file.end, file.name]) > 1]
        notes = {name for name in self.lying["failed"] if name.endswith(NOTE)}
        return {
            "lost": [file for file in self.missing if file.name not in bad_names and file not in shared],
            "changed": list(changed),
            "overwritten": list(shared),
            "filed twice": [self.dropped[sha] for sha, count in self.copies.items() if count > 1 and sha in self.dropped],
            "filed in the wrong place": list(self._misplaced()),
            "failed without a note": [
                name for folder, name, _ in self._filed() if folder == "failed" and name + NOTE not in notes
            ],
            "left in inbox/ or claimed/": [*self.lying["inbox"], *self.lying["claimed"]],
            "given to the handler changed": [call for call in self.calls if call.sha256 not in self.dropped],
            "known by more than one id": self._two_ids(),
            "handled again without a cause": [again for again in self.again if again.cause == NO_CAUSE],
        }

    def _misplaced(self) -> Iterator[Dropped]:
        """Yield files that are not where they belong: the first of a name under it, the others under the next free ones."""
        for (end, name), files in self.by_name.items():
            names = list(islice(candidate_names(name), len(files)))
            there = [self.lying[end].get(one) for one in names]
            if there[0] != files[0].sha256:
                yield files[0]
            yield from (file for file in files[1:] if file.sha256 not in there and file not in self.missing)

    def _two_ids(self) -> list[object]:
        ids = defaultdict(set)
        for call in self.calls:
            ids[call.sha256].add(call.id)
        return [sha for sha, known in ids.items() if len(known) > 1]

    @cached_property
    def again(self) -> list[Again]:
        """Every call that neither the file nor its handler asked for, with its cause."""
        by_file: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            by_file[call.sha256].append(call)
        return [
            Again(self.dropped[sha], first, second, self._cause(first, second))
            for sha, calls in by_file.items()
            if sha in self.dropped and self.dropped[sha].kind != "die"
            for first, second in pairwise(calls)
            if first.ending != "raised"
        ]

    @cached_property
    def suicides(self) -> list[Call]:
        """The calls over which a handler killed its own process."""
        return [call for call in self.calls if call.sha256 in self.dropped and self.dropped[call.sha256].kind == "die"]

    @cached_property
    def _last_of(self) -> dict[int, Call]:
        """The last call in each process."""
        return {call.pid: call for call in sorted(self.calls, key=lambda call: call.at)}

    def _cause(self, first: Call, second: Call) -> str:
        """Say why a file was handed out again: the end of its process before all else."""
        # a death is a cause only for the file in hand, which may have been handled just so, and not noted yet
        in_hand = first is self._last_of[first.pid]
        if in_hand and any(death.pid == first.pid and first.at <= death.at <= second.at for death in self.suicides):
            return "a neighbour killed its process"
        between = [fault for fault in self.faults if fault.at <= second.at and fault.until >= first.at]
        killed = [fault for fault in between if first.pid in fault.killed and in_hand]
        of_redis = sorted((fault for fault in between if fault.kind in OF_REDIS), key=lambda fault: OF_REDIS.index(fault.kind))
        return next((fault.kind for fault in (*killed, *of_redis)), NO_CAUSE)

    def recoveries(self, kinds: Collection[str]) -> list[tuple[float, float, Fault]]:
        """Return for each fault the seconds until the next file was filed, and until all earlier ones of these kinds were."""
        filed = sorted(self.filed_at.values())
        found = []
        for fault in self.faults:
            after = next((at for at in filed if at > fault.at), fault.at)
            before = [sha for sha, file in self.dropped.items() if file.at <= fault.at and file.kind in kinds]
            last = max([fault.at, *(self.filed_at.get(sha, 0.0) for sha in before)])
            found.append((after - fault.at, last - fault.at, fault))
        return found

    def _worst(self, kinds: Collection[str], index: int) -> str:
        worst = max(self.recoveries(kinds), key=lambda recovery: recovery[index])
        return f"{worst[index]:.1f} s ({worst[2].kind})"

    def rows(self, settled: float) -> Iterator[tuple[str, object]]:
        """Yield what the ledger says, row by row."""
        folders = Counter(folder for folder, _, _ in self._filed())
        kills = [fault for fault in self.faults if fault.killed]
        yield "faults", f"{len(self.faults)} of {len({fault.kind for fault in self.faults})} kinds"
        yield "files dropped", len(self.dropped)
        yield "… under a name that was in done/ or failed/ already", sum(len(files) - 1 for files in self.by_name.values())
        yield "done", folders["done"]
        yield "failed, as they should", folders["failed"]
        for name, cases in self.wrong.items():
            yield name, len(cases)
        yield "workers and children killed", len(kills) + len(self.suicides)
        yield "… of these by a handler", len(self.suicides)
        yield "files handled more than once", len({again.file.sha256 for again in self.again})
        yield "… in so many parcels", len({again.first.parcel for again in self.again})
        yield "calls of handlers too many", len(self.again)
        for cause, count in sorted(Counter(again.cause for again in self.again).items()):
            yield f"… after: {cause}", count
        yield "worst time from a fault until the next file was filed", self._worst(WELL, 0)
        yield "… until all that had been dropped before it was", self._worst(WELL, 1)
        yield "… and all whose handler raised or died, too", self._worst({file.kind for file in self.dropped.values()}, 1)
        yield "from the last fault until all was filed", f"{settled:.1f} s"


def _read(path: Path) -> list[Call]:
    """Return the calls in the order of their beginnings."""
    begun: dict[tuple[int, str], list[dict[str, object]]] = defaultdict(list)
    lines = [json.loads(line) for line in path.read_text("ascii").splitlines()] if path.exists() else []
    for line in lines:
        if line["what"] == "begun":
            begun[line["pid"], line["sha256"]].append({**line, "ending": ""})
        else:
            begun[line["pid"], line["sha256"]][-1]["ending"] = line["what"]
    calls = [Call(**{key: call[key] for key in Call.__slots__}) for calls in begun.values() for call in calls]
    return sorted(calls, key=lambda call: call.at)
