"""The tables of the settings file, but for those of inboxes: their keys, defaults and limits."""

import ipaddress
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from inboxd.config.units import expand_home_text, to_bytes, to_seconds, to_texts
from inboxd.config.values import (
    Bytes,
    Count,
    Folder,
    Interval,
    NotifyKind,
    Patterns,
    Seconds,
    check_header_name,
    check_namespace,
    check_redis_url,
    check_stage_url,
    parse_address,
)


class Section(BaseModel):
    """A table of the settings file. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Redis(Section):
    """Address, timeouts and expiry times of the broker and result store."""

    url: Annotated[str, AfterValidator(check_redis_url)] = ""
    namespace: Annotated[str, AfterValidator(check_namespace)] = ""
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


class Notify(Section):
    """Who is told of failed, stuck, paused and recovered inboxes. URLs hold passwords: they are in no ``repr``."""

    urls: Annotated[tuple[str, ...], BeforeValidator(to_texts), Field(repr=False)] = ()
    urls_file: str = ""
    on: Annotated[tuple[NotifyKind, ...], BeforeValidator(to_texts)] = ("failed", "stuck", "paused", "recovered")
    every: Interval = 600.0
    hourly_max: Annotated[int, Field(ge=1, le=1000)] = 12


class Stage(Section):
    """A store by way of which workers that do not see the folders get large files, and the options of its fsspec driver."""

    url: Annotated[str, AfterValidator(check_stage_url)] = ""
    options: dict[str, Any] = {}
    secret_file: Annotated[str, AfterValidator(expand_home_text)] = ""

    @property
    def scheme(self) -> str:
        """The scheme of the URL, such as s3; "" if there is none."""
        return self.url.partition("://")[0]


class Web(Section):
    """Address of `inboxd web`, and who may use its page."""

    listen: str = "127.0.0.1:8080"
    password_file: str = ""
    trusted_header: Annotated[str, AfterValidator(check_header_name)] = ""
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
