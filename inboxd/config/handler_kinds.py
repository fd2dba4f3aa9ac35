"""What handles an inbox's files: a function, a command, a URL, a chain of these, or a task of another Celery app.

The keys of each kind, and which of them is set.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from inboxd.config.programs import check_command, check_queue, check_task, check_url, check_variables
from inboxd.config.tables import Section
from inboxd.config.units import expand_home_text, to_bytes, to_seconds, to_texts
from inboxd.config.values import check_handler_name

DEFAULT_HANDLER = "inboxd.handlers:describe"
KINDS = ("handler", "command", "url", "task", "steps")
"""The keys of which an inbox has one: each names what handles its files."""

FILES = ("authorization_file", "ca_file", "secret_file")
"""The keys that name a file of a webhook's."""

ExitCodes = tuple[Annotated[int, Field(ge=0, le=255)], ...]


class ProgramKeys(Section):
    """What a worker calls with a file: one of ``handler``, ``command`` and ``url``, and how."""

    handler: Annotated[str, AfterValidator(check_handler_name)] = DEFAULT_HANDLER
    command: Annotated[tuple[str, ...], BeforeValidator(to_texts), AfterValidator(check_command)] = ()
    stdin: Literal["none", "file"] = "none"
    env: Annotated[tuple[str, ...], BeforeValidator(to_texts), AfterValidator(check_variables)] = ()
    ok_codes: ExitCodes = (0,)
    reject_codes: ExitCodes = (65,)
    nice: Annotated[int, Field(ge=0, le=19)] = 0
    memory_max: Annotated[int, BeforeValidator(to_bytes), Field(ge=0)] = 0
    url: Annotated[str, AfterValidator(check_url)] = ""
    body: Literal["raw", "multipart"] = "raw"
    keep_answer: bool = False
    secret_file: Annotated[str, AfterValidator(expand_home_text)] = ""
    authorization_file: Annotated[str, AfterValidator(expand_home_text)] = ""
    ca_file: Annotated[str, AfterValidator(expand_home_text)] = ""

    @property
    def handled_by(self) -> str:
        """What handles the files: "invoices:book", "command ocrmypdf", or a URL without its query, which may hold a token."""
        return f"command {self.command[0]}" if self.command else self.url.partition("?")[0] or self.handler

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        given = [kind for kind in KINDS if _is_given(self, kind)]
        if len(given) > 1:
            raise ValueError(f"has both {' and '.join(given[:2])}: one of them handles the files; remove the other")
        if both := set(self.ok_codes) & set(self.reject_codes):
            raise ValueError(f"ok_codes and reject_codes both have {min(both)}: an exit code has one meaning")
        return self


def _is_given(keys: ProgramKeys, kind: str) -> bool:
    return kind in keys.model_fields_set if kind == "handler" else bool(getattr(keys, kind, None))


def to_step(value: object) -> object:
    """Return a step of a chain as a table: the text ``module:function`` stands for one with this handler."""
    return {"handler": value} if isinstance(value, str) else value


def check_steps(steps: tuple[ProgramKeys, ...]) -> tuple[ProgramKeys, ...]:
    """Return the steps of a chain, () for none. Raises ValueError."""
    if any(not any(_is_given(step, kind) for kind in KINDS) for step in steps):
        raise ValueError(
            'each step is a text "module:function", or a table: {command = ["gzip", "{path}"]}, {url = "https://books.example.org"}'
        )
    if sum(bool(step.secret_file or step.authorization_file) for step in steps) > 1:
        raise ValueError("only one step can have a secret_file or authorization_file, which is passed on by the inbox's name")
    return steps


class HandlerKeys(ProgramKeys):
    """What handles the files: one of ``handler``, ``command``, ``url``, ``task`` and ``steps``, and how it is called."""

    task: Annotated[str, AfterValidator(check_task)] = ""
    queue: Annotated[str, AfterValidator(check_queue)] = "celery"
    serializer: Literal["msgpack", "json"] = "msgpack"
    answer_seconds: Annotated[float, BeforeValidator(to_seconds), Field(ge=1, le=30 * 86_400, allow_inf_nan=False)] = 3600.0
    copies_max: Annotated[int, Field(ge=1, le=100)] = 3
    steps: Annotated[tuple[Annotated[ProgramKeys, BeforeValidator(to_step)], ...], AfterValidator(check_steps)] = ()

    @property
    def handled_by(self) -> str:
        """As of a single program; or "task invoices.tasks.book", or the steps of a chain."""
        if self.steps:
            return " > ".join(step.handled_by for step in self.steps)
        return f"task {self.task}" if self.task else super().handled_by

    @property
    def programs(self) -> tuple[ProgramKeys, ...]:
        """What a worker calls with each file, one after the other: the steps, or these keys; () for a task of another app."""
        return () if self.task else self.steps or (self,)

    @model_validator(mode="before")
    @classmethod
    def _take_list_as_steps(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("handler"), list | tuple):
            steps = data["handler"]
            if not steps:
                raise ValueError("handler is an empty list: a chain has at least one step")
            if data.get("steps"):
                raise ValueError("has both handler and steps: one of them handles the files; remove the other")
            return {key: value for key, value in data.items() if key != "handler"} | {"steps": steps}
        return data


def without_other_kinds(defaults: dict[str, object], own: dict[str, object]) -> dict[str, object]:
    """Return the keys of ``[defaults]`` for an inbox with these keys: its own kind of handler replaces that of the defaults."""
    if any(kind in own for kind in KINDS):
        return {key: value for key, value in defaults.items() if key not in KINDS}
    return defaults
