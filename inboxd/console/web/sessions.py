"""Signed session cookies, and the tokens that bind a form to the session that got it. Nothing is stored on the server."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

COOKIE = "inboxd_session"
LIFETIME_SECONDS = 12 * 3600
_COOKIE = re.compile(r"([0-9a-f]{32})\.([01])\.([0-9]{1,12})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's session: a random id, whether its user has given the password, and when it began, in Unix seconds."""

    id: str
    has_password: bool
    began_at: int


class Sessions:
    """Issues and checks cookies and tokens with a key that lives as long as the process: a restart ends all sessions.

    ``secret`` is the password's hash, so that a new password ends the sessions of the old one.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock

    def create(self, *, has_password: bool = False) -> Session:
        """Return a new session."""
        return Session(secrets.token_hex(16), has_password, int(self._clock()))

    def serialize(self, session: Session, secret: str) -> str:
        """Return a session as a cookie's value."""
        content = f"{session.id}.{session.has_password:d}.{session.began_at}"
        return f"{content}.{self._sign('session', content, secret)}"

    def parse(self, cookie: str, secret: str) -> Session | None:
        """Return the session of a cookie; None if it is forged, too old, or of another password."""
        match = _COOKIE.fullmatch(cookie)
        if match is None or not hmac.compare_digest(match[4], self._sign("session", cookie[: match.start(4) - 1], secret)):
            return None
        session = Session(match[1], match[2] == "1", int(match[3]))
        return session if 0 <= self._clock() - session.began_at < LIFETIME_SECONDS else None

    def form_token(self, session: Session, user: str) -> str:
        """Return the token that each form of this session must send back."""
        return self._sign("form", session.id, user)

    def is_form_token(self, token: str, session: Session, user: str) -> bool:
        """Return whether a token is the one of this session and user."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.form_token(session, user).encode())

    def _sign(self, *parts: str) -> str:
        content = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self._key, content.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
