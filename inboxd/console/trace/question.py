"""What `inboxd trace` is asked for: a file by one of its paths, a parcel, a SHA-256 or a file's id; and looking for it."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from inboxd.console.logs.records import LogSource, Record
from inboxd.console.trace.timeline import FileLife, build_lives
from inboxd.logs.text import escape
from inboxd.spool.layout import CLAIMED, DONE, FAILED, INBOX, is_parcel_id

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """One way to read what was typed: ``value`` is to be found at one of ``keys``; in ``inbox`` only, if one is meant."""

    keys: tuple[str, ...]
    value: str
    inbox: str | None = None

    def matches_record(self, record: Record) -> bool:
        """Tell whether a record that was found is meant."""
        return self.inbox is None or record.text("inbox") in (self.inbox, None)

    def matches_life(self, life: FileLife) -> bool:
        """Tell whether a life is one that was asked for."""
        if self.inbox is not None and life.inbox not in (self.inbox, None):
            return False
        spoken_of: dict[str, list[Any]] = {"parcel": life.parcels, "file": [life.file], "filed": [life.first_value("filed")]}
        return any(self.value in spoken_of.get(key, ()) for key in self.keys) or self.keys[0] in ("sha256", "file_id")


def parse_queries(asked: str, roots: Mapping[str, PurePath], here: Path) -> list[TraceQuery]:
    """Return the ways in which a word can be meant, the likeliest first; ``roots`` are the inboxes' folders by name.

    A path is one below inbox/, as dropped or as the log spells it, or one that leads into an inbox's folders from ``here``.
    """
    found = []
    if is_parcel_id(asked):
        found.append(TraceQuery(("parcel", "out_of"), asked))
    if _SHA256.fullmatch(asked.lower()):
        found.append(TraceQuery(("sha256",), asked.lower()))
    if _FILE_ID.fullmatch(asked):
        found.append(TraceQuery(("file_id",), asked))
    found += _queries_for_path(asked, roots, here)
    if not asked.startswith("/"):
        found.append(TraceQuery(("file", "filed"), escape(os.fsencode(asked.removeprefix("./")))))
    return found


def _queries_for_path(asked: str, roots: Mapping[str, PurePath], here: Path) -> list[TraceQuery]:
    """Return what a path in the file system means, if it leads into one of an inbox's four folders."""
    path = here / asked
    spelt = dict.fromkeys(Path(os.path.normpath(p)) for p in (path, path.parent.resolve() / path.name))
    found = [
        _query_below(name, candidate.relative_to(top).parts)
        for name, root in roots.items()
        for candidate in spelt
        for top in (Path(root), Path(root).resolve())
        if candidate.is_relative_to(top)
    ]
    return [question for question in dict.fromkeys(found) if question is not None]


def _query_below(inbox: str, parts: tuple[str, ...]) -> TraceQuery | None:
    folder, *rest = map(os.fsencode, parts or ("",))
    match folder, rest:
        case (_, []):
            return None
        case (folder, _) if folder == INBOX:
            return TraceQuery(("file",), escape(b"/".join(rest)), inbox)
        case (folder, _) if folder in (DONE, FAILED):
            return TraceQuery(("filed",), escape(b"/".join(rest)), inbox)
        case (folder, [parcel]) if folder == CLAIMED:
            return TraceQuery(("parcel", "out_of"), escape(parcel), inbox)
        case (folder, [_, *path]) if folder == CLAIMED:
            return TraceQuery(("file",), escape(b"/".join(path)), inbox)
        case _:
            return None


def run_queries(source: LogSource, asked: Iterable[TraceQuery]) -> list[FileLife]:
    """Look for what was asked, in each way that it can be meant until one finds something; the earliest life first."""
    for question in asked:
        if found := [life for life in build_lives(_collect_records(source, question)) if question.matches_life(life)]:
            return found
    return []


def _collect_records(source: LogSource, question: TraceQuery) -> list[Record]:
    """Return all records of what was asked: first those that name it, then those of the parcels that these speak of.

    A parcel may have been split out of another, or into others, so this goes on until no parcel is new. Of the other files in
    its parcels nothing is kept.
    """
    first = [record for record in source.search(question.keys, {question.value}) if question.matches_record(record)]
    found = {id(record): record for record in first}
    files = {(record.text("inbox"), record.text("file")) for record in first if record.text("file") is not None}
    by_name = question.keys[0] == "file" and all(record.text("file") == question.value for record in first)
    asked = {question.value} if question.keys[0] == "parcel" else set()
    while new := {parcel for record in found.values() for parcel in record.parcels} - asked:
        more = source.search(("parcel", "out_of"), new, with_files=not by_name)
        asked |= new
        kept = [r for r in more if r.text("file") is None or (r.text("inbox"), r.text("file")) in files]
        found |= {id(record): record for record in kept}
    return _unique([*found.values()])


def _unique(records: list[Record]) -> list[Record]:
    """Return each line once, though two searches have found it."""
    seen: set[str] = set()
    kept = []
    for record in records:
        spelt = repr(sorted(record.fields.items(), key=lambda item: item[0]))
        if spelt not in seen:
            seen.add(spelt)
            kept.append(record)
    return kept
