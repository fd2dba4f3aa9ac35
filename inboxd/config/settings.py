"""The settings as one frozen object: its keys, their limits, and the limits that depend on each other."""

import ipaddress
import re
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from inboxd.config.units import expand_home, expand_home_text, to_bytes, to_days, to_list, to_seconds, to_texts

Seconds = Annotated[float, BeforeValidator(to_seconds), Field(ge=0, le=86_400 * 30, allow_inf_nan=False)]
Interval = Annotated[float, BeforeValidator(to_seconds), Field(gt=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, BeforeValidator(to_bytes), Field(ge=0)]
Days = Annotated[float, BeforeValidator(to_days), Field(ge=0, allow_inf_nan=False)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(to_list)]
Folder = Annotated[PurePath, AfterValidator(expand_home)]

HARD_LIMIT_GRACE_SECONDS = 10
"""Time between the soft limit, which raises in the handler, and the hard limit, which kills its process, in seconds."""


def _check_handler_name(value: str) -> str:
    if not re.fullmatch(r"[\w.]+:[\w.]+", value):
        raise ValueError("a handler has the form module:function, such as inboxd.handlers:describe")
    return value


class Section(BaseModel):
    """A table of the settings file. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


def _check_redis_url(value: str) -> str:
    if value.startswith(("sentinel:", "redis+sentinel:", "sentinels:")):
        raise ValueError(
            "Sentinel is not supported: after a failover the new master may lack messages, and the old one be written to; name "
            "the address of the master, such as a DNS name or a proxy that follows it"
        )
    return value


def _check_namespace(value: str) -> str:
    if value and (not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", value) or value.startswith(("inboxd", "celery-task-meta"))):
        raise ValueError("a namespace has up to 32 of a-z, 0-9, - and _, and does not begin with inboxd or celery-task-meta")
    return value


class Redis(Section):
    """Address, timeouts and expiry times of the broker and result store."""

    url: Annotated[str, AfterValidator(_check_redis_url)] = ""
    namespace: Annotated[str, AfterValidator(_check_namespace)] = ""
    allow_no_password: bool = False
    connect_timeout_seconds: Interval = 2.0
    socket_timeout_seconds: Interval = 5.0
    visibility_timeout_seconds: Annotated[int, BeforeValidator(to_seconds), Field(ge=60)] = 3600
    result_expires_seconds: Annotated[int, BeforeValidator(to_seconds), Field(ge=600)] = 86_400


class Work(Section):
    """Concurrency, leases and timeouts of workers."""

    concurrency: Annotated[int, Field(ge=0, le=1024)] = 0
    lease_seconds: Annotated[float, BeforeValidator(to_seconds), Field(ge=3, le=3600)] = 15.0
    crashes_max: Count = 3
    outage_seconds: Seconds = 120.0
    silent_seconds: Seconds = 60.0
    stop_seconds: Seconds = 30.0
    child_files_max: Annotated[int, Field(ge=16, le=100_000)] = 256
    child_memory_max: Bytes = 0
    remote_control: Literal["read", "all"] = "read"
    writable: tuple[Folder, ...] = ()


class Sweep(Section):
    """Intervals of the sweeps that beat schedules."""

    missed_seconds: Interval = 15.0
    stale_seconds: Interval = 15.0
    expired_seconds: Interval = 3600.0
    grace_seconds: Interval = 5.0


class Log(Section):
    """Level and format of the log, the file of `inboxd up`, and the files that `inboxd log` and `inboxd trace` read."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console", "journal"] = "auto"
    file: Annotated[str, AfterValidator(expand_home_text)] = "var/log/inboxd.log"
    file_bytes_max: Annotated[int, BeforeValidator(to_bytes), Field(ge=64 * 1024)] = 20_000_000
    files_kept: Annotated[int, Field(ge=0, le=1000)] = 9
    files: tuple[Folder, ...] = ()


def parse_address(listen: str) -> tuple[str, int]:
    """Return host and port of an address such as "127.0.0.1:9464" or "[::1]:9464". Raises ValueError."""
    host, _, port = listen.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
        raise ValueError("an address has the form host:port, such as 127.0.0.1:9464")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    return ("127.0.0.1" if bare == "localhost" else str(ipaddress.ip_address(bare))), int(port)


class Metrics(Section):
    """Address at which the watcher serves metrics to Prometheus, without authentication."""

    listen: str = ""
    remote: bool = False

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if not self.listen:
            return self
        host, _ = parse_address(self.listen)
        if not (self.remote or ipaddress.ip_address(host).is_loopback):
            raise ValueError(f"{host} is reachable from other hosts without authentication; set remote = true to allow that")
        return self


NOTE_LANGUAGES = ("en", "de")


def _expand_notes(value: str) -> str:
    if not value:
        raise ValueError("the notes' language, en or de, or a folder with a file notes.txt")
    return value if value in NOTE_LANGUAGES else str(expand_home(PurePath(value)))


NotifyKind = Literal["failed", "stuck", "paused", "recovered"]


class Notify(Section):
    """Who is told of failed, stuck, paused and recovered inboxes. URLs hold passwords: they are in no ``repr``."""

    urls: Annotated[tuple[str, ...], BeforeValidator(to_texts), Field(repr=False)] = ()
    urls_file: str = ""
    on: Annotated[tuple[NotifyKind, ...], BeforeValidator(to_texts)] = ("failed", "stuck", "paused", "recovered")
    every: Interval = 600.0
    hourly_max: Annotated[int, Field(ge=1, le=1000)] = 12


def _check_header_name(value: str) -> str:
    if not re.fullmatch(r"([A-Za-z][A-Za-z0-9-]{0,63})?", value):
        raise ValueError("a header's name has letters, digits and -, such as X-Remote-User")
    return value


class Web(Section):
    """Address of `inboxd web`, and who may use its page."""

    listen: str = "127.0.0.1:8080"
    password_file: str = ""
    trusted_header: Annotated[str, AfterValidator(_check_header_name)] = ""
    hosts: Patterns = ()

    @property
    def socket(self) -> PurePath | None:
        """The path of the unix socket, None for a TCP address."""
        return PurePath(self.listen.removeprefix("unix:")) if self.listen.startswith("unix:") else None

    @property
    def is_local(self) -> bool:
        """Whether only this host can connect: a unix socket, or a loopback address."""
        return self.socket is not None or ipaddress.ip_address(parse_address(self.listen)[0]).is_loopback

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if self.socket is not None and not self.socket.is_absolute():
            raise ValueError("the path of a unix socket is absolute, such as unix:/run/inboxd-web/web.sock")
        if self.socket is None:
            try:
                parse_address(self.listen)
            except ValueError:
                raise ValueError("an address has the form IP:port, such as 127.0.0.1:8080, or unix:/PATH") from None
        if self.is_local or self.password_file:
            return self
        raise ValueError(
            f"{self.listen} is reachable from other hosts: set web.password_file (inboxd web --set-password), or listen on "
            "127.0.0.1 or a unix socket, behind a reverse proxy"
        )


class Rules(Section):
    """Keys that each inbox may set for itself; ``[defaults]`` sets them for all inboxes."""

    handler: Annotated[str, AfterValidator(_check_handler_name)] = "inboxd.handlers:describe"
    # selection
    include: Patterns = ("*",)
    exclude: Patterns = ()
    case_sensitive: bool = False
    temporary_names: Patterns = ()
    recursive: bool = True
    depth_max: Annotated[int, Field(ge=1, le=100)] = 32
    size_bytes_max: Bytes = 0
    # readiness
    watch_mode: Literal["auto", "inotify", "polling"] = "auto"
    poll_seconds: Interval = 1.0
    settle_seconds: Seconds = 2.0
    unsure_seconds: Seconds | Literal["auto"] = "auto"
    empty_file_seconds: Seconds = 10.0
    # changes after the claim
    claim: Literal["rename", "copy"] = "rename"
    changes_max: Annotated[int, Field(ge=0, le=100)] = 3
    ignore_changes: bool = False
    # retries and time limit
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    retry_backoff_seconds: Seconds = 2.0
    retry_backoff_max_seconds: Seconds = 300.0
    time_limit_seconds: Annotated[int, BeforeValidator(to_seconds), Field(ge=1, le=86_400)] = 300
    # batching
    inline_bytes_max: Annotated[int, BeforeValidator(to_bytes), Field(ge=0, le=256 * 1024)] = 32 * 1024
    parcel_files_max: Annotated[int, Field(ge=1, le=10_000)] = 500
    parcel_bytes_max: Annotated[int, BeforeValidator(to_bytes), Field(ge=1024, le=16 * 1024 * 1024)] = 1024 * 1024
    in_flight_files_max: Count = 2000
    in_flight_bytes_max: Annotated[int, BeforeValidator(to_bytes), Field(ge=1024)] = 64 * 1024 * 1024
    # retention
    keep_done_days: Days = 0.0
    keep_failed_days: Days = 0.0
    empty_folders: Literal["remove", "keep"] = "remove"
    empty_folder_seconds: Seconds = 600.0
    # what droppers see
    contact: str = ""
    notes: Annotated[str, AfterValidator(_expand_notes)] = "en"
    visible_to: Literal["nobody", "group", "droppers"] = "nobody"
    # notifications
    notify_urls: Annotated[tuple[str, ...], BeforeValidator(to_texts), Field(repr=False)] = ()
    notify_on: Annotated[tuple[NotifyKind, ...], BeforeValidator(to_texts)] | Literal["auto"] = "auto"

    def retry_delay(self, retries: int) -> float:
        """Return the seconds before the next attempt: doubled with each retry, at most ``retry_backoff_max_seconds``."""
        return float(min(self.retry_backoff_seconds * 2**retries, self.retry_backoff_max_seconds))


class Inbox(Rules):
    """One inbox: its root folder, and its rules with the defaults filled in."""

    root: Folder
    name: str = ""


class Settings(BaseSettings):
    """All settings, as built by ``inboxd.config.loading.load_settings`` and by ``inboxd.service.reloading``."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="INBOXD_", env_nested_delimiter="__", validate_default=True
    )

    state_dir: Folder = PurePath("var")
    host: str = ""
    redis: Redis = Redis()
    work: Work = Work()
    sweep: Sweep = Sweep()
    log: Log = Log()
    metrics: Metrics = Metrics()
    notify: Notify = Notify()
    web: Web = Web()
    defaults: Rules = Rules()
    inbox: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")], Inbox] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, data: object) -> object:
        """Add to each inbox its name, and the keys of ``[defaults]`` that it does not set."""
        if not isinstance(data, dict) or not isinstance(data.get("inbox"), dict):
            return data
        defaults = data.get("defaults")
        common = defaults if isinstance(defaults, dict) else {}
        filled = {
            name: {**common, **table, "name": [name, table["name"]] if "name" in table else name}
            if isinstance(table, dict)
            else table
            for name, table in data["inbox"].items()
        }
        return {**data, "inbox": filled}

    @model_validator(mode="after")
    def _check_dependent_limits(self) -> Self:
        """Check the limits that depend on each other: time limit and retry delay < visibility timeout, grace <= lease."""
        timeout = self.redis.visibility_timeout_seconds
        for name, inbox in self.inbox.items():
            longest = inbox.time_limit_seconds + HARD_LIMIT_GRACE_SECONDS + self.work.lease_seconds
            if longest >= timeout:
                raise ValueError(
                    f"inbox.{name}.time_limit_seconds: {inbox.time_limit_seconds:g} is too long: with "
                    f"{HARD_LIMIT_GRACE_SECONDS:g} s of grace and the lease of {self.work.lease_seconds:g} s it must be below "
                    f"redis.visibility_timeout_seconds = {timeout}, or a parcel that is in progress is redelivered"
                )
            if inbox.retry_backoff_max_seconds >= timeout:
                raise ValueError(
                    f"inbox.{name}.retry_backoff_max_seconds: {inbox.retry_backoff_max_seconds:g} must be below "
                    f"redis.visibility_timeout_seconds = {timeout}, or a parcel that waits for its retry is redelivered"
                )
        if self.sweep.grace_seconds > self.work.lease_seconds:
            raise ValueError(
                f"sweep.grace_seconds: {self.sweep.grace_seconds:g} must not be above work.lease_seconds = "
                f"{self.work.lease_seconds:g}"
            )
        return self
