"""What the views share: settings, the state that threads keep, access, templates, and a session's notices."""

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from inboxd.config.settings import Settings
from inboxd.console.times import format_local
from inboxd.console.web.access import Access, Visitor
from inboxd.console.web.failed_index import FailedIndex
from inboxd.console.web.poller import Poller
from inboxd.console.web.requests import encode_path, form_of, link
from inboxd.console.web.retry_job import RetryJobs
from inboxd.logs.text import escape, format_age

NOTICES_MAX = 200


def _format_count(number: int | None) -> str:
    """Return a number in groups of three digits, with narrow spaces; "-" for None."""
    return "-" if number is None else f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def make_environment() -> Environment:
    """Return the templates: what they show is escaped, as HTML and as unprintable characters."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(shown=escape, encoded=encode_path, age=format_age, moment=format_local, count=_format_count)
    environment.globals.update(link=link)
    return environment


@dataclass(slots=True)
class Site:
    """The parts of the page. ``is_stopping`` tells long replies to end."""

    settings: Settings
    file: Path
    access: Access
    index: FailedIndex
    poller: Poller
    jobs: RetryJobs
    is_stopping: Callable[[], bool] = lambda: False
    templates: Environment = field(default_factory=make_environment)
    log_search: threading.Lock = field(default_factory=threading.Lock)
    notices: OrderedDict[str, str] = field(default_factory=OrderedDict)

    @property
    def version(self) -> tuple[int, ...]:
        """Numbers of which one changes whenever a page may look different."""
        job = self.jobs.last
        return self.poller.latest.version, self.index.latest.version, *((job.moved, job.kept, job.is_running) if job else ())

    def render(self, request: Request, template: str, status: int = 200, **values: object) -> Response:
        """Return a page. Its templates get the visitor, the form token and the session's notice, which is shown once."""
        visitor = visitor_of(request)
        token = self.access.sessions.form_token(visitor.session, visitor.user)
        common = {
            "visitor": visitor,
            "token": token,
            "has_login": self.access.has_login,
            "notice": self.notices.pop(visitor.session.id, "") if status == 200 else "",  # noqa: PLR2004 - OK
            "job": self.jobs.last,
            "inboxes": list(self.settings.inbox),
            "here": request.url.path,
        }
        return HTMLResponse(self.templates.get_template(template).render({**common, **values}), status)

    def leave_notice(self, request: Request, text: str) -> None:
        """Show a text on the session's next page."""
        self.notices[visitor_of(request).session.id] = text
        if len(self.notices) > NOTICES_MAX:
            self.notices.popitem(last=False)

    def posted(self, view: Callable[["Site", Request, dict[str, str]], Response]) -> Callable[[Request], Awaitable[Response]]:
        """Return a route for a view that changes something: called in a thread, with a form that has the session's token."""

        async def endpoint(request: Request) -> Response:
            form = await form_of(request)
            visitor = visitor_of(request)
            if not self.access.sessions.is_form_token(form.get("token", ""), visitor.session, visitor.user):
                raise HTTPException(403, "the form is not from this session, or the server was restarted: load the page again")
            return await run_in_threadpool(view, self, request, form)

        return endpoint

    def shown(self, view: Callable[["Site", Request], Response]) -> Callable[[Request], Response]:
        """Return a route for a view that changes nothing; Starlette calls it in a thread."""
        return lambda request: view(self, request)


def visitor_of(request: Request) -> Visitor:
    """Return who sends a request, as the guard has found."""
    visitor = request.state.visitor
    assert isinstance(visitor, Visitor)
    return visitor
