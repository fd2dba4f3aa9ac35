"""Find what `inboxd trace` is asked for: a file by one of its paths, a parcel, a SHA-256 or a file's id."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from inboxd.console.log_reading.records import LogSource, Record
from inboxd.console.trace.timeline import FileLife, build_lives
from inboxd.logs.text import escape
from inboxd.spool.layout import CLAIMED, DONE, FAILED, INBOX, is_parcel_id

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """One interpretation of the command's argument: ``value`` at one of ``keys``, in ``inbox`` only unless that is None."""

    keys: tuple[str, ...]
    value: str
    inbox: str | None = None

    def matches_record(self, record: Record) -> bool:
        """Return whether a record is of the query's inbox or names no inbox."""
        return self.inbox is None or record.text("inbox") in (self.inbox, None)

    def matches_life(self, life: FileLife) -> bool:
        """Return whether a life is of the query's inbox and has the query's value."""
        if self.inbox is not None and life.inbox not in (self.inbox, None):
            return False
        values: dict[str, list[Any]] = {"parcel": life.parcels, "file": [life.file], "filed": [life.last_value("filed")]}
        return any(self.value in values.get(key, ()) for key in self.keys) or self.keys[0] in ("sha256", "file_id")


def parse_queries(argument: str, roots: Mapping[str, PurePath], working_folder: Path) -> list[TraceQuery]:
    """Return the possible interpretations of a command argument, the likeliest first; ``roots`` maps inbox names to roots.

    A path is relative to inbox/, as dropped or as logged, or leads into an inbox's folders from ``working_folder``.
    """
    queries = []
    if is_parcel_id(argument):
        queries.append(TraceQuery(("parcel", "out_of"), argument))
    if _SHA256.fullmatch(argument.lower()):
        queries.append(TraceQuery(("sha256",), argument.lower()))
    if _FILE_ID.fullmatch(argument):
        queries.append(TraceQuery(("file_id",), argument))
    queries += _queries_for_path(argument, roots, working_folder)
    if not argument.startswith("/"):
        queries.append(TraceQuery(("file", "filed"), escape(os.fsencode(argument.removeprefix("./")))))
    return queries


def _queries_for_path(argument: str, roots: Mapping[str, PurePath], working_folder: Path) -> list[TraceQuery]:
    """Return the queries for a file system path that leads into one of an inbox's four folders."""
    path = working_folder / argument
    candidates = dict.fromkeys(Path(os.path.normpath(p)) for p in (path, path.parent.resolve() / path.name))
    queries = [
        _query_below(name, candidate.relative_to(top).parts)
        for name, root in roots.items()
        for candidate in candidates
        for top in (Path(root), Path(root).resolve())
        if candidate.is_relative_to(top)
    ]
    return [query for query in dict.fromkeys(queries) if query is not None]


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


def run_queries(source: LogSource, queries: Iterable[TraceQuery]) -> list[FileLife]:
    """Return the lives that the first successful query finds, the earliest first."""
    for query in queries:
        if found := [life for life in build_lives(_collect_records(source, query)) if query.matches_life(life)]:
            return found
    return []


def _collect_records(source: LogSource, query: TraceQuery) -> list[Record]:
    """Return the records that match the query, and those of the parcels that they name, without these parcels' other files.

    A parcel may have been split out of another, or into others, so the search repeats until it finds no new parcel.
    """
    first = [record for record in source.search(query.keys, {query.value}) if query.matches_record(record)]
    found = {id(record): record for record in first}
    files = {(record.text("inbox"), record.text("file")) for record in first if record.text("file") is not None}
    is_by_name = query.keys[0] == "file" and all(record.text("file") == query.value for record in first)
    searched = {query.value} if query.keys[0] == "parcel" else set()
    while new := {parcel for record in found.values() for parcel in record.parcels} - searched:
        more = source.search(("parcel", "out_of"), new, with_files=not is_by_name)
        searched |= new
        kept = [r for r in more if r.text("file") is None or (r.text("inbox"), r.text("file")) in files]
        found |= {id(record): record for record in kept}
    return _unique([*found.values()])


def _unique(records: list[Record]) -> list[Record]:
    """Return the records without duplicates, which several searches may have found."""
    unique: dict[str, Record] = {}
    for record in records:
        unique.setdefault(repr(sorted(record.fields.items(), key=lambda item: item[0])), record)
    return [*unique.values()]
