"""The ledger of a drill: where each file ended, how often the handler was called and why, and how long each fault lasted."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path

from faults import Fault
from support.live.stand import Stand

from inboxd.fs.names import candidate_names

SETTLED_SECONDS = 90.0
"""Maximum time from the last fault until all files are filed."""

CALLS = "calls.jsonl"
"""The file in which the drill's handler records its calls."""

NOTE_SUFFIX = b".error.txt"
REDIS_FAULTS = ("FLUSHALL", "kill -9 server", "server full", "SIGSTOP server", "CLIENT KILL")
"""Faults after which Redis may lack an outcome, the likeliest cause first."""

NO_CAUSE = "no known cause"
FINAL_AT_FIRST_CALL = ("describe", "sleep", "reject")
"""The kinds of files whose first call returns or rejects."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file as dropped; contents are unique, so the SHA-256 identifies it. ``end`` is the folder where it must be filed."""

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
class Repetition:
    """Two calls for one file although the first did not raise, and the fault between them."""

    file: Dropped
    first: Call
    second: Call
    cause: str


class Ledger:
    """The figures of one drill, from the files in the folders and the handler's recorded calls."""

    def __init__(self, stand: Stand, dropped: Sequence[Dropped], faults: Sequence[Fault], calls: Path) -> None:
        self.dropped = {file.sha256: file for file in dropped}
        self.faults = faults
        self.superseded = self._apply_changes()
        """Contents that a fault has replaced while the file was claimed."""
        self.calls = _read_calls(calls)
        self.files = {folder: stand.tree(folder) for folder in ("done", "failed", "inbox", "claimed")}
        self.filed_at = {sha: stand.path(folder, name).stat().st_ctime for folder, name, sha in self._filed()}

    def _apply_changes(self) -> set[str]:
        """Expect the new content of each file that was written to while it was claimed, and no longer the old one."""
        superseded = set()
        for fault in self.faults:
            if fault.changed and (file := self.dropped.pop(fault.changed[0], None)):
                superseded.add(file.sha256)
                self.dropped[fault.changed[1]] = replace(file, sha256=fault.changed[1])
        return superseded

    def _filed(self) -> Iterator[tuple[str, bytes, str]]:
        """Yield folder, path and SHA-256 of each file in done/ and failed/ except error notes."""
        for folder in ("done", "failed"):
            for name, sha in self.files[folder].items():
                if not (folder == "failed" and name.endswith(NOTE_SUFFIX)):
                    yield folder, name, sha

    @cached_property
    def copies(self) -> Counter[str]:
        """The number of files with each content, in all folders."""
        unfiled = (sha for folder in ("inbox", "claimed") for sha in self.files[folder].values())
        return Counter([*(sha for _, _, sha in self._filed()), *unfiled])

    @cached_property
    def missing(self) -> list[Dropped]:
        """Files whose content is in no folder."""
        return [file for sha, file in self.dropped.items() if not self.copies[sha]]

    @cached_property
    def by_name(self) -> dict[tuple[str, bytes], list[Dropped]]:
        """The dropped files by final folder and name, the earliest first."""
        files: dict[tuple[str, bytes], list[Dropped]] = defaultdict(list)
        for file in sorted(self.dropped.values(), key=lambda file: file.at):
            files[file.end, file.name].append(file)
        return files

    @cached_property
    def wrong(self) -> dict[str, list[object]]:
        """The cases of each kind of error that must not occur."""
        changed = [(folder, name) for folder, name, sha in self._filed() if sha not in self.dropped]
        changed_names = {name for _, name in changed}
        overwritten = [file for file in self.missing if len(self.by_name[file.end, file.name]) > 1]
        notes = {name for name in self.files["failed"] if name.endswith(NOTE_SUFFIX)}
        return {
            "lost": [file for file in self.missing if file.name not in changed_names and file not in overwritten],
            "changed": list(changed),
            "overwritten": list(overwritten),
            "filed twice": [self.dropped[sha] for sha, count in self.copies.items() if count > 1 and sha in self.dropped],
            "filed in the wrong place": list(self._misplaced()),
            "failed without a note": [
                name for folder, name, _ in self._filed() if folder == "failed" and name + NOTE_SUFFIX not in notes
            ],
            "left in inbox/ or claimed/": [*self.files["inbox"], *self.files["claimed"]],
            "passed to the handler with changed content": [
                call for call in self.calls if call.sha256 not in self.dropped and call.sha256 not in self.superseded
            ],
            "with more than one file id": self._with_several_ids(),
            "handled again without a known cause": [again for again in self.repetitions if again.cause == NO_CAUSE],
        }

    def _misplaced(self) -> Iterator[Dropped]:
        """Yield the files in the wrong place: the first of a name must have it, later ones the next free candidate names."""
        for (end, name), files in self.by_name.items():
            names = list(islice(candidate_names(name), len(files)))
            filed = [self.files[end].get(candidate) for candidate in names]
            if filed[0] != files[0].sha256:
                yield files[0]
            yield from (file for file in files[1:] if file.sha256 not in filed and file not in self.missing)

    def _with_several_ids(self) -> list[object]:
        ids = defaultdict(set)
        for call in self.calls:
            ids[call.sha256].add(call.id)
        written_to = {
            fault.changed[1] for fault in self.faults if fault.changed
        }  # the id is that of the content as it was packed
        return [sha for sha, file_ids in ids.items() if len(file_ids) > 1 and sha not in written_to]

    @cached_property
    def repetitions(self) -> list[Repetition]:
        """The calls that neither an exception nor a file that kills its process explains, with their causes."""
        by_file: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            by_file[call.sha256].append(call)
        return [
            Repetition(self.dropped[sha], first, second, self._cause(first, second))
            for sha, calls in by_file.items()
            if sha in self.dropped and self.dropped[sha].kind != "die"
            for first, second in pairwise(calls)
            if first.ending != "raised"
        ]

    @cached_property
    def suicides(self) -> list[Call]:
        """The calls in which a handler killed its own process."""
        return [call for call in self.calls if call.sha256 in self.dropped and self.dropped[call.sha256].kind == "die"]

    @cached_property
    def _last_calls(self) -> dict[int, Call]:
        """The last call in each process."""
        return {call.pid: call for call in sorted(self.calls, key=lambda call: call.at)}

    def _cause(self, first: Call, second: Call) -> str:
        """Return why a file was handled again; the death of the first call's process comes before all other causes."""
        # a process's death explains only its last file, which may have been handled without being recorded in the journal
        is_last = first is self._last_calls[first.pid]
        if is_last and any(death.pid == first.pid and first.at <= death.at <= second.at for death in self.suicides):
            return "another file's handler killed the process"
        if any(fault.changed and fault.changed[1] == second.sha256 for fault in self.faults):
            return "claimed file written to"
        between = [fault for fault in self.faults if fault.at <= second.at and fault.until >= first.at]
        kills = [fault for fault in between if first.pid in fault.killed and is_last]
        redis_faults = [fault for kind in REDIS_FAULTS for fault in between if fault.kind == kind]
        return next((fault.kind for fault in (*kills, *redis_faults)), NO_CAUSE)

    def recoveries(self, kinds: Collection[str]) -> list[tuple[float, float, Fault]]:
        """Return for each fault the seconds until the next file was filed, and until all earlier files of the kinds were."""
        filed = sorted(self.filed_at.values())
        recoveries = []
        for fault in self.faults:
            next_filed = next((at for at in filed if at > fault.at), fault.at)
            earlier = [sha for sha, file in self.dropped.items() if file.at <= fault.at and file.kind in kinds]
            last_filed = max([fault.at, *(self.filed_at.get(sha, 0.0) for sha in earlier)])
            recoveries.append((next_filed - fault.at, last_filed - fault.at, fault))
        return recoveries

    def _worst(self, kinds: Collection[str], index: int) -> str:
        worst = max(self.recoveries(kinds), key=lambda recovery: recovery[index])
        return f"{worst[index]:.1f} s ({worst[2].kind})"

    def rows(self, settled: float) -> Iterator[tuple[str, object]]:
        """Yield the ledger's rows: name and value."""
        folders = Counter(folder for folder, _, _ in self._filed())
        kills = [fault for fault in self.faults if fault.killed]
        yield "faults", f"{len(self.faults)} of {len({fault.kind for fault in self.faults})} kinds"
        yield "files dropped", len(self.dropped)
        yield "… with the name of a file in done/ or failed/", sum(len(files) - 1 for files in self.by_name.values())
        yield "done", folders["done"]
        yield "failed, as expected", folders["failed"]
        for name, cases in self.wrong.items():
            yield name, len(cases)
        yield "files written to after their claim, and handled again", len(self.superseded)
        yield "workers and children killed", len(kills) + len(self.suicides)
        yield "… by a handler", len(self.suicides)
        yield "files handled more than once", len({again.file.sha256 for again in self.repetitions})
        yield "… parcels of these files", len({again.first.parcel for again in self.repetitions})
        yield "repeated handler calls", len(self.repetitions)
        for cause, count in sorted(Counter(again.cause for again in self.repetitions).items()):
            yield f"… after: {cause}", count
        yield "longest time from a fault until the next file was filed", self._worst(FINAL_AT_FIRST_CALL, 0)
        yield "… until all files dropped before the fault were filed", self._worst(FINAL_AT_FIRST_CALL, 1)
        yield "… including files whose handler raised or died", self._worst({file.kind for file in self.dropped.values()}, 1)
        yield "from the last fault until all files were filed", f"{settled:.1f} s"


def _read_calls(path: Path) -> list[Call]:
    """Return the calls by start time."""
    begun: dict[tuple[int, str], list[dict[str, object]]] = defaultdict(list)
    lines = [json.loads(line) for line in path.read_text("ascii").splitlines()] if path.exists() else []
    for line in lines:
        if line["what"] == "begun":
            begun[line["pid"], line["sha256"]].append({**line, "ending": ""})
        else:
            begun[line["pid"], line["sha256"]][-1]["ending"] = line["what"]
    calls = [Call(**{key: call[key] for key in Call.__slots__}) for calls in begun.values() for call in calls]
    return sorted(calls, key=lambda call: call.at)
