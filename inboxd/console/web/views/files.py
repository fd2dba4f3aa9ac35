"""One file, found by its path or by a search: where it is and why; and, on a page of its own, its timeline from the log.

The log may be large: only who looks at a timeline waits for it, and one search runs at a time. A page with JavaScript loads it.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from inboxd.console.explain.explain import Explanation, explain
from inboxd.console.log_reading.records import LogFilter, LogSource
from inboxd.console.log_reading.sources import LogSelection, choose_source
from inboxd.console.trace.query import TraceQuery, parse_queries, run_queries
from inboxd.console.trace.render import render_life
from inboxd.console.trace.timeline import FileLife
from inboxd.console.web.failure import Failure, FailureFilter
from inboxd.console.web.requests import link, path_of, query_of
from inboxd.console.web.site import Site
from inboxd.errors import InboxdError, SettingsError
from inboxd.logs.text import escape
from inboxd.spool.layout import split_path

FOLDERS = ("inbox", "claimed", "done", "failed")
HITS_MAX = 20


@dataclass(slots=True)
class Findings:
    """What is known of a file: explanations, lives with their lines, and why one of the sources could not be read."""

    explanations: list[Explanation] = field(default_factory=list)
    lives: list[tuple[FileLife, list[str]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def one_file(site: Site, request: Request) -> Response:
    """Show the file at a path of an inbox."""
    inbox, folder, path = _place_of(site, query_of(request))
    findings = explain_path(site, _typed(site, inbox, folder, path))
    here = link("/timeline", inbox=inbox, folder=folder, path=path)
    status = 200 if findings.explanations else 404
    return site.render(request, "file.html", status, inbox=inbox, path=path, findings=findings, timeline=here)


def search(site: Site, request: Request) -> Response:
    """Show the form, and for a text what is found: the file at that path, and failed files with that name."""
    text = query_of(request).get("q", "").strip()
    findings = explain_path(site, text) if text else Findings()
    similar = _unlisted(site.index.matching(FailureFilter(name=text))[:HITS_MAX], findings) if text else []
    return site.render(
        request, "search.html", text=text, findings=findings, similar=similar, timeline=link("/timeline", q=text)
    )


def timeline(site: Site, request: Request) -> Response:
    """Show what the log says of the file at a path, or of what a search is for."""
    values = query_of(request)
    if text := values.get("q", "").strip():
        roots = {name: inbox.root for name, inbox in site.settings.inbox.items()}
        queries, title = parse_queries(text, roots, Path("/")), text
    else:
        inbox, folder, path = _place_of(site, values)
        keys = ("filed", "file") if folder == "failed" else ("file", "filed")
        queries, title = [TraceQuery(keys, escape(path), inbox)], escape(path)
    with site.log_search:
        findings = trace(site, queries)
        logged = _search_log(site, text) if text and not findings.lives else []
    return site.render(request, "timeline.html", title=title, findings=findings, logged=logged)


def _place_of(site: Site, values: dict[str, str]) -> tuple[str, str, bytes]:
    """Return inbox, folder and path of a request. Raises HTTPException if there can't be such a file."""
    path, inbox, folder = path_of(values), values.get("inbox", ""), values.get("folder", "failed")
    if inbox not in site.settings.inbox or folder not in FOLDERS:
        raise HTTPException(404, "there is no inbox or folder of this name")
    try:
        split_path(path)
    except ValueError:
        raise HTTPException(404, "the path does not lead into the inbox") from None
    return inbox, folder, path


def _typed(site: Site, inbox: str, folder: str, path: bytes) -> str:
    return os.fsdecode(bytes(site.settings.inbox[inbox].root) + b"/" + folder.encode() + b"/" + path)


def _unlisted(similar: list[Failure], findings: Findings) -> list[Failure]:
    listed = {(e.inbox, e.path) for e in findings.explanations if e.folder == "failed"}
    return [failure for failure in similar if (failure.inbox, failure.path) not in listed]


def explain_path(site: Site, typed: str) -> Findings:
    """Return the explanations of a path."""
    findings = Findings()
    try:
        findings.explanations = explain(site.settings, typed)
    except (InboxdError, OSError, ValueError) as error:
        findings.problems.append(f"the folders can't be read: {error}")
    return findings


def trace(site: Site, queries: list[TraceQuery]) -> Findings:
    """Return the lives that the queries find in the log."""
    findings = Findings()
    try:
        found = run_queries(log_source(site, findings.problems), queries)
        findings.lives = [(life, list(render_life(life))) for life in found[:HITS_MAX]]
    except (InboxdError, OSError) as error:
        findings.problems.append(_describe(error))
    return findings


def _search_log(site: Site, text: str) -> list[tuple[str, str]]:
    """Return inbox and path of the files that the log mentions last, and whose path has the text."""
    pattern = text if "*" in text or "?" in text else "*" + escape(text).replace("[", "[[]") + "*"
    try:
        records = log_source(site, []).last(LogFilter(file=pattern), 10 * HITS_MAX)
    except (InboxdError, OSError):
        return []
    files = {(r.text("inbox") or "", r.text("file") or ""): None for r in reversed(records) if r.is_from_inboxd}
    return [*files][:HITS_MAX]


def log_source(site: Site, problems: list[str]) -> LogSource:
    """Return the log of the settings; unreadable files are added to ``problems``. Raises SettingsError if there is none."""
    return choose_source(LogSelection(), site.settings, problems.append)


def _describe(error: Exception) -> str:
    if isinstance(error, SettingsError):
        return "; ".join(f"{finding.where}: {finding.problem}: {finding.remedy}" for finding in error.findings)
    return f"the log can't be read: {error}"
