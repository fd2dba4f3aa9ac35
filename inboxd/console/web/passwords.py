"""The password file of the page: one line with the scrypt hash of one password."""

import base64
import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from inboxd.config.strict_modes import find_untrusted
from inboxd.errors import Finding, SettingsError

CHARS_MIN = 8
_N, _R, _P = 1 << 15, 8, 1
_BYTES = 32
_MEMORY_MAX = 256 * _N * _R
_LINE = re.compile(r"scrypt:(\d{1,7}):(\d{1,2}):(\d{1,2}):([A-Za-z0-9+/=]{16,64}):([A-Za-z0-9+/=]{44})")
REMEDY = "write it with: inboxd web --set-password"


def hash_password(password: str) -> str:
    """Return the line for a password, with a random salt."""
    salt = secrets.token_bytes(16)
    key = _derive(password, salt, _N, _R, _P)
    return f"scrypt:{_N}:{_R}:{_P}:{base64.b64encode(salt).decode()}:{base64.b64encode(key).decode()}"


def is_password(password: str, line: str) -> bool:
    """Return whether a password is the one of a line; takes about 0.1 s and 32 MiB."""
    match = _LINE.fullmatch(line)
    if match is None:
        return False
    n, r, p = (int(match[number]) for number in (1, 2, 3))
    try:
        key = _derive(password, base64.b64decode(match[4]), n, r, p)
    except ValueError:  # other costs than those that hash_password writes
        return False
    return hmac.compare_digest(key, base64.b64decode(match[5]))


def _derive(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogateescape"), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY_MAX, dklen=_BYTES
    )


def read_hash(path: Path) -> str:
    """Return the line of a password file. Raises SettingsError if it is missing, malformed, or others can read or change it."""
    try:
        mode, text = path.stat().st_mode, path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([Finding(f"web.password_file = {path}", f"can't be read: {error}", REMEDY)]) from None
    findings = find_untrusted(path)
    if mode & stat.S_IROTH:
        problem = f"everybody can read it (mode {stat.S_IMODE(mode):04o})"
        findings.append(Finding(f"web.password_file = {path}", problem, f"chmod o= {path}"))
    if not _LINE.fullmatch(text):
        findings.append(Finding(f"web.password_file = {path}", "is not a line with a scrypt hash", REMEDY))
    if findings:
        raise SettingsError(findings)
    return text


def write_hash(path: Path, line: str, settings_file: Path) -> None:
    """Replace a password file, readable by its owner; one of root's also by the settings file's group. Raises SettingsError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), 0, settings_file.stat().st_gid)
                os.fchmod(file.fileno(), 0o640)
            file.write(line + "\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        remedy = "create its folder, and give this user permission to write there"
        raise SettingsError([Finding(f"web.password_file = {path}", f"can't be written: {error.strerror}", remedy)]) from None
