"""The settings as one frozen object, and the limits that depend on each other."""

from pathlib import PurePath
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from inboxd.config.handler_kinds import without_other_kinds
from inboxd.config.rules import Inbox, Rules
from inboxd.config.tables import Log, Metrics, Notify, Redis, Stage, Sweep, Web, Work
from inboxd.config.values import Folder

HARD_LIMIT_GRACE_SECONDS = 10
"""Time between the soft limit, which raises in the handler, and the hard limit, which kills its process, in seconds."""


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
    stage: Stage = Stage()
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
            name: {**without_other_kinds(common, table), **table, "name": [name, table["name"]] if "name" in table else name}
            if isinstance(table, dict)
            else table
            for name, table in data["inbox"].items()
        }
        return {**data, "inbox": filled}

    def output_folder(self, inbox: Inbox) -> PurePath | None:
        """Return the folder that an inbox's outputs go to: None for out/ beside done/."""
        if inbox.next_inbox:  # it may be missing if both inboxes were removed from the settings
            following = self.inbox.get(inbox.next_inbox)
            return following.root / "inbox" if following else None
        return PurePath(inbox.out) if inbox.out else None

    @model_validator(mode="after")
    def _check_pipelines(self) -> Self:
        """Check that each inbox whose outputs go to another one names one that exists, and that none comes back to itself."""
        for name, inbox in self.inbox.items():
            way, following = [name], inbox.next_inbox
            while following:
                if following not in self.inbox:
                    raise ValueError(f"inbox.{way[-1]}.out: there is no [inbox.{following}]; there are {', '.join(self.inbox)}")
                if following in way:
                    circle = " > ".join([*way[way.index(following) :], following])
                    raise ValueError(f"inbox.{way[-1]}.out: outputs would go round for ever: {circle}")
                way.append(following)
                following = self.inbox[following].next_inbox
        return self

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
