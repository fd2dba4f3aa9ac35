"""Failed files: the list, the retry of one, and the retry of all that match, with its confirmation and its progress."""

import time

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from inboxd.console.requeue import requeue_paths
from inboxd.console.web.failure import Failure, FailureFilter
from inboxd.console.web.requests import encoded_path_of, link, page_of, query_of, text_of
from inboxd.console.web.site import Site, visitor_of
from inboxd.errors import InboxdError
from inboxd.logs.text import escape

PAGE_FILES = 50
CONFLICT = 409


def _filter_of(site: Site, values: dict[str, str], until: float | None = None) -> FailureFilter:
    inbox = values.get("inbox", "")
    if inbox and inbox not in site.settings.inbox:
        raise HTTPException(404, "there is no inbox of this name")
    return FailureFilter(inbox, text_of(values, "reason"), text_of(values, "name"), until)


def failed(site: Site, request: Request) -> Response:
    """Show one page of the failed files that match."""
    values = query_of(request)
    wanted = _filter_of(site, values)
    found = site.index.matching(wanted)
    pages = max((len(found) - 1) // PAGE_FILES + 1, 1)
    page = min(page_of(values), pages)
    shown = found[(page - 1) * PAGE_FILES : page * PAGE_FILES]
    return site.render(
        request, "failed.html", wanted=wanted, files=shown, total=len(found), page=page, pages=pages, index=site.index.latest
    )


def retry_one(site: Site, request: Request, form: dict[str, str]) -> Response:
    """Move one failed file back, and show the list again."""
    wanted, path = _filter_of(site, {**form, "inbox": form.get("list", "")}), encoded_path_of(form)
    inbox = form.get("inbox", "")
    if inbox not in site.settings.inbox:
        raise HTTPException(404, "there is no inbox of this name")
    try:
        result = next(requeue_paths(site.settings, inbox, [path]))
    except InboxdError as error:
        raise HTTPException(CONFLICT, str(error)) from None
    if result.new_path is None:
        site.leave_notice(request, f"{escape(path)} was not moved: {escape(result.problem)}")
    else:
        site.leave_notice(request, f"{escape(path)} was moved back to inbox/{escape(result.new_path)}")
    _forget(site, inbox, path)
    page = page_of(form)
    address = link("/failed", inbox=wanted.inbox, reason=wanted.reason, name=wanted.name, page=page if page > 1 else "")
    return RedirectResponse(address, 303)


def _forget(site: Site, inbox: str, path: bytes) -> None:
    files: list[Failure] = [f for f in site.index.matching(FailureFilter(inbox)) if f.path == path]
    site.index.forget(files)


def confirm(site: Site, request: Request) -> Response:
    """Ask whether all files that match are to be moved back, and say how many they are."""
    now = time.time()
    wanted = _filter_of(site, query_of(request), now)
    found = site.index.matching(wanted)
    return site.render(request, "confirm.html", wanted=wanted, total=len(found), until=now, index=site.index.latest)


def retry_all(site: Site, request: Request, form: dict[str, str]) -> Response:
    """Start moving back the files that the confirmation has counted, and show the progress."""
    try:
        until = float(form.get("until", ""))
    except ValueError:
        raise HTTPException(400, "the confirmation has no time") from None
    wanted = _filter_of(site, form, until)
    found = site.index.matching(wanted)
    if not found:
        site.leave_notice(request, "no failed file matches any more: nothing was moved")
        return RedirectResponse("/failed", 303)
    if not site.jobs.start(found, describe_filter(wanted), visitor_of(request).user):
        raise HTTPException(CONFLICT, "another retry is running: wait for its end")
    return RedirectResponse("/retries", 303)


def describe_filter(wanted: FailureFilter) -> str:
    """Return a filter in words."""
    parts = [
        f"of the inbox {wanted.inbox}" if wanted.inbox else "of all inboxes",
        f"with the reason {escape(wanted.reason)}" if wanted.reason else "",
        f"with the name {escape(wanted.name)}" if wanted.name else "",
    ]
    return "failed files " + " ".join(filter(None, parts))


def progress(site: Site, request: Request) -> Response:
    """Show the last retry of many files."""
    return site.render(request, "retries.html", index=site.index.latest)
