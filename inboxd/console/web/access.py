"""Who may use the page: everybody who can connect, who a reverse proxy names, or who gives the password."""

import ipaddress
import threading
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from inboxd.config.tables import Web
from inboxd.config.values import parse_address
from inboxd.console.web.passwords import is_password, read_hash
from inboxd.console.web.sessions import COOKIE, Session, Sessions
from inboxd.console.web.throttle import LoginThrottle
from inboxd.errors import SettingsError

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
PASSWORD_USER, LOCAL_USER = "password", "local"
USER_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sends a request: the session, whether it is allowed in, and a name for the log. ``cookie`` is one to set, or ""."""

    session: Session
    is_allowed: bool
    user: str = ""
    cookie: str = ""


class Access:
    """Identifies visitors and checks passwords."""

    def __init__(self, web: Web, sessions: Sessions | None = None, throttle: LoginThrottle | None = None) -> None:
        self.web = web
        self.sessions = sessions or Sessions()
        self.throttle = throttle or LoginThrottle()
        self._hashing = threading.Lock()  # one hash at a time: each needs 32 MiB

    @property
    def has_login(self) -> bool:
        """Whether there is a password."""
        return bool(self.web.password_file)

    def is_host_allowed(self, host: str) -> bool:
        """Return whether the page answers to this Host: another page's name that leads to this host's loopback is refused."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        allowed = {known.lower() for known in self.web.hosts}
        if self.web.socket is not None:  # no browser can open it, whatever a name leads to
            return not allowed or name.lower() in allowed
        if not self.web.is_local:
            return not allowed or name.lower() in allowed | {parse_address(self.web.listen)[0]}
        return name.lower() in allowed | LOCAL_NAMES

    def is_from_this_host(self, request: Request) -> bool:
        """Return whether the peer is on this host: connected by the unix socket, or from a loopback address."""
        if self.web.socket is not None:
            return True
        try:
            return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
        except ValueError:
            return False

    def identify(self, request: Request) -> Visitor:
        """Return who sends a request. Raises SettingsError if the password file can't be used."""
        secret = self._read_secret()
        session = self.sessions.parse(request.cookies.get(COOKIE, ""), secret)
        cookie = ""
        if session is None:
            session = self.sessions.create()
            cookie = self.sessions.serialize(session, secret)
        user = ""
        if self.web.trusted_header and self.is_from_this_host(request):
            user = request.headers.get(self.web.trusted_header, "")[:USER_CHARS_MAX]
        if not user and self.has_login and session.has_password:
            user = PASSWORD_USER
        if not user and not self.has_login and not self.web.trusted_header:
            user = LOCAL_USER
        return Visitor(session, bool(user), user, cookie)

    def log_in(self, password: str) -> str:
        """Return the cookie of a new session if the password is right, else ""."""
        secret = self._read_secret()
        with self._hashing:
            if not is_password(password, secret):
                return ""
        return self.sessions.serialize(self.sessions.create(has_password=True), secret)

    def _read_secret(self) -> str:
        return read_hash(Path(self.web.password_file)) if self.has_login else ""

    def find_error(self) -> SettingsError | None:
        """Return why the password file can't be used, None if it can."""
        try:
            self._read_secret()
        except SettingsError as error:
            return error
        return None
