"""The ASGI application: its routes, static files, and error pages."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from inboxd.console.web.guard import Guard
from inboxd.console.web.site import Site
from inboxd.console.web.views import events, failed, files, login, overview

STATIC_TYPES: Mapping[str, str] = MappingProxyType(
    {"style.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}
)


def make_app(site: Site) -> ASGIApp:
    """Return the application for a site."""
    routes = [
        Route("/", site.shown(overview.overview)),
        Route("/failed", site.shown(failed.failed)),
        Route("/failed/retry", site.posted(failed.retry_one), methods=["POST"]),
        Route("/retry", site.shown(failed.confirm)),
        Route("/retry", site.posted(failed.retry_all), methods=["POST"]),
        Route("/retries", site.shown(failed.progress)),
        Route("/search", site.shown(files.search)),
        Route("/file", site.shown(files.one_file)),
        Route("/timeline", site.shown(files.timeline)),
        Route("/login", site.shown(login.show_login)),
        Route("/login", site.posted(login.log_in), methods=["POST"]),
        Route("/logout", site.posted(login.log_out), methods=["POST"]),
        Route("/events", events.event_route(site)),
        *(_static_route(name, media_type) for name, media_type in STATIC_TYPES.items()),
    ]

    def show_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return site.render(request, "error.html", error.status_code, problem=error.detail, code=error.status_code)

    def show_bug(_request: Request, error: Exception) -> Response:
        del error  # uvicorn logs it, with its traceback
        return PlainTextResponse("the page could not be made: see the log of inboxd web\n", 500)

    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: show_error, Exception: show_bug}), site.access)


def _static_route(name: str, media_type: str) -> Route:
    content = (Path(__file__).parent / "static" / name).read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    def endpoint(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"ETag": etag})
        return Response(content, media_type=media_type, headers={"ETag": etag})

    return Route(f"/static/{name}", endpoint)
