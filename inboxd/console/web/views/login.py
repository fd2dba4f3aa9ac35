"""Login with the password, and logout."""

import math

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from inboxd.console.web.guard import cookie_header, is_secure
from inboxd.console.web.requests import query_of
from inboxd.console.web.site import Site
from inboxd.logs import events
from inboxd.logs.logger import get_logger

_log = get_logger(__name__)


def show_login(site: Site, request: Request) -> Response:
    """Show the form."""
    if not site.access.has_login:
        raise HTTPException(404, "there is no password")
    return site.render(request, "login.html", problem="", next=safe_target(query_of(request).get("next", "/")))


def log_in(site: Site, request: Request, form: dict[str, str]) -> Response:
    """Check the password, and begin a new session."""
    if not site.access.has_login:
        raise HTTPException(404, "there is no password")
    target = safe_target(form.get("next", "/"))
    address = request.client.host if request.client else "unix socket"
    if wait := site.access.throttle.begin_attempt(address):
        problem = f"Too many wrong passwords: wait {math.ceil(wait)} s, then try again."
        response = site.render(request, "login.html", 429, problem=problem, next=target)
        response.headers["Retry-After"] = str(math.ceil(wait))
        return response
    cookie = site.access.log_in(form.get("password", ""))
    if not cookie:
        _log.warning(events.WEB_LOGIN_REFUSED, address=address, remedy="none, unless it happens often")
        return site.render(request, "login.html", 403, problem="The password is wrong.", next=target)
    site.access.throttle.succeed(address)
    _log.info(events.WEB_LOGIN, address=address)
    response = RedirectResponse(target, 303)
    response.headers["Set-Cookie"] = cookie_header(cookie, is_secure=is_secure(request, site.access))
    return response


def log_out(site: Site, request: Request, _form: dict[str, str]) -> Response:
    """End the session."""
    response = RedirectResponse("/login", 303)
    response.headers["Set-Cookie"] = cookie_header("", is_secure=is_secure(request, site.access))
    return response


def safe_target(target: str) -> str:
    """Return the address to show after the login: one of this page, never of another site."""
    is_own = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isascii() and target.isprintable()
    return target if is_own else "/"
