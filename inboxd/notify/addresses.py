"""To whom notifications go: the URLs of each inbox, from the settings, a file or a credential; what may be shown of a URL."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from urllib.parse import unquote

from inboxd.config.rules import Inbox
from inboxd.config.secret_files import CREDENTIALS_VARIABLE
from inboxd.config.settings import Settings
from inboxd.fs.syscalls import Disk
from inboxd.logs.text import escape

CREDENTIAL_NAME = "notify-urls"

_HOST_SCHEMES = frozenset(
    {
        "apprise", "apprises", "form", "forms", "gotify", "gotifys", "http", "https", "json", "jsons", "mailto", "mailtos",
        "matrix", "matrixs", "mmost", "mmosts", "mqtt", "mqtts", "ntfy", "ntfys", "rocket", "rockets", "xml", "xmls",
    }
)  # fmt: skip
"""Schemes of URLs with a real host; in others, a token or a channel is in its place."""
_HOST = re.compile(r"localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|\[[0-9a-fA-F:.]+\]")
_SECRET_CHARS_MIN = 4


@dataclass(frozen=True, slots=True)
class Addresses:
    """The URLs of each inbox, by its name; and why the file with URLs can't be used, or "". Never shown as a whole."""

    by_inbox: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    problem: str = ""

    @property
    def urls(self) -> tuple[str, ...]:
        """Each URL once."""
        return tuple(dict.fromkeys(url for urls in self.by_inbox.values() for url in urls))


def is_configured(settings: Settings, environment: Mapping[str, str]) -> bool:
    """Return whether the settings, or a credential, name anybody to notify."""
    return bool(
        settings.notify.urls
        or settings.notify.urls_file
        or any(inbox.notify_urls for inbox in settings.inbox.values())
        or _find_credential(environment)
    )


def read_addresses(settings: Settings, environment: Mapping[str, str]) -> Addresses:
    """Return the URLs of each inbox that is not switched off: its own ones, or those of [notify] and its file."""
    lines, problem = _read_file(settings, environment)
    general = tuple(dict.fromkeys((*settings.notify.urls, *lines)))
    by_inbox = {name: inbox.notify_urls or general for name, inbox in settings.inbox.items() if kinds_of(inbox, settings)}
    return Addresses({name: urls for name, urls in by_inbox.items() if urls}, problem)


def kinds_of(inbox: Inbox, settings: Settings) -> frozenset[str]:
    """Return the kinds of events of an inbox that are told; none if it is switched off."""
    return frozenset(settings.notify.on if inbox.notify_on == "auto" else inbox.notify_on)


def _find_credential(environment: Mapping[str, str]) -> PurePath | None:
    """Return the path of the credential, None if there is none."""
    folder = environment.get(CREDENTIALS_VARIABLE)
    if not folder:
        return None
    path = PurePath(folder) / CREDENTIAL_NAME
    try:
        Disk().read_text(path)
    except FileNotFoundError:
        return None
    except OSError:
        return path  # _read_file reports it
    return path


def _read_file(settings: Settings, environment: Mapping[str, str]) -> tuple[list[str], str]:
    """Return the URLs of the credential, else of notify.urls_file, a line each; and why it can't be read, or ""."""
    path = _find_credential(environment) or (PurePath(settings.notify.urls_file) if settings.notify.urls_file else None)
    if path is None:
        return [], ""
    try:
        text = Disk().read_text(path)
    except OSError as error:
        return [], f"{path}: {error.strerror}"
    lines = (line.strip() for line in text.splitlines())
    urls = [line for line in lines if line and not line.startswith("#")]
    return urls, "" if urls else f"{path}: it has no URL"


def url_id(url: str) -> str:
    """Return an id of a URL that does not show it."""
    return hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def label(url: str) -> str:
    """Return the part of a URL that is no secret: the scheme, and the host if the scheme has one."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if not rest or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        return "(not a URL)"
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    host = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return f"{scheme}://{escape(host)}" if scheme in _HOST_SCHEMES and _HOST.fullmatch(host) else f"{scheme}://"


def labels(urls: Iterable[str]) -> dict[str, str]:
    """Return the label of each URL; of several with the same one, the further ones are numbered."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for url in urls:
        text = label(url)
        counts[text] = counts.get(text, 0) + 1
        found[url] = text if counts[text] == 1 else f"{text} ({counts[text]})"
    return found


def without_secrets(text: str, url: str) -> str:
    """Return a text, such as an error, in which each part of a URL that may be secret is replaced by asterisks."""
    rest = url.partition("://")[2]
    parts = {rest, *re.split(r"[/?#&=@:,]", rest)} - {label(url).partition("://")[2]}
    for part in sorted(parts | {unquote(part) for part in parts}, key=len, reverse=True):
        if len(part) >= _SECRET_CHARS_MIN:
            text = text.replace(part, "***")
    return text
