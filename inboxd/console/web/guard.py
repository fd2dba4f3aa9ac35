"""Stands before every route: checks Host, visitor and form token, and adds the headers that confine the page in a browser."""

from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inboxd.console.web.access import Access, Visitor
from inboxd.console.web.sessions import COOKIE, LIFETIME_SECONDS
from inboxd.errors import SettingsError
from inboxd.logs import events
from inboxd.logs.logger import get_logger

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
OPEN_PATHS = ("/login", "/static/")
"""Paths that need no login."""
METHODS = ("GET", "HEAD", "POST")

_log = get_logger(__name__)


class Guard:
    """An ASGI application around the page's routes. Views find the Visitor in ``request.state.visitor``."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        visitor: Visitor | None = None
        refusal = self._check_address(request)
        if refusal is None:
            try:
                visitor = self._access.identify(request)
                refusal = self._check_visitor(request, visitor)
            except SettingsError as error:
                _log.warning(events.WEB_UNAVAILABLE, error=str(error), remedy="correct web.password_file")
                refusal = PlainTextResponse("the password file can't be used: see the log of inboxd web\n", 503)
        scope.setdefault("state", {})["visitor"] = visitor
        cookie = self._set_cookie(request, visitor.cookie) if visitor and visitor.cookie else ""
        await (refusal or self._app)(scope, receive, _with_headers(send, request, cookie))

    def _check_address(self, request: Request) -> Response | None:
        if request.method not in METHODS:
            return PlainTextResponse("the method is not allowed\n", 405, {"Allow": ", ".join(METHODS)})
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._access.is_host_allowed(hosts[0]):
            return PlainTextResponse("the page does not answer to this Host: add its name to web.hosts\n", 421)
        return None

    def _check_visitor(self, request: Request, visitor: Visitor) -> Response | None:
        if visitor.is_allowed or request.url.path.startswith(OPEN_PATHS):
            return None
        if not self._access.has_login:
            problem = f"the reverse proxy has not named a user in the header {self._access.web.trusted_header}"
            return PlainTextResponse(f"{problem}\n", 403)
        if request.method == "POST" or request.url.path == "/events":
            return PlainTextResponse("log in first\n", 401)
        target = request.scope["path"] + ("?" + request.url.query if request.url.query else "")
        return RedirectResponse("/login?next=" + quote(target, safe=""), 303)

    def _set_cookie(self, request: Request, value: str) -> str:
        return cookie_header(value, is_secure=is_secure(request, self._access))


def is_secure(request: Request, access: Access) -> bool:
    """Return whether the browser's connection is encrypted, as a reverse proxy on this host says."""
    return access.is_from_this_host(request) and request.headers.get("x-forwarded-proto", "") == "https"


def cookie_header(value: str, *, is_secure: bool) -> str:
    """Return a Set-Cookie header for a session; an empty value removes it."""
    age = LIFETIME_SECONDS if value else 0
    return f"{COOKIE}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict" + ("; Secure" if is_secure else "")


def _with_headers(send: Send, request: Request, cookie: str) -> Send:
    is_static = request.url.path.startswith("/static/")

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers["Cache-Control"] = "no-cache" if is_static else "no-store"
            if cookie and not is_static and "set-cookie" not in headers:
                headers.append("Set-Cookie", cookie)
        await send(message)

    return send_with_headers
