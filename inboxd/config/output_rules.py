"""What becomes of what a handler makes of a file: its name, its folder, and what happens if the name is taken."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from inboxd.config.placeholders import placeholders
from inboxd.config.tables import Section
from inboxd.config.units import expand_home_text

OUTPUT_PLACEHOLDERS = (
    "counter", "date", "folder", "id", "inbox", "name", "output", "output_stem", "output_suffix", "sha256", "stem", "suffix",
)  # fmt: skip
"""The words that stand in braces in the template of outputs' names."""

DEFAULT_OUTPUTS = "{folder}/{output}"
INBOX_PREFIX = "inbox:"
"""Begins an ``out`` that is the folder inbox/ of another inbox."""


def check_outputs(template: str) -> str:
    """Return the template of the outputs' paths. Raises ValueError."""
    if unknown := [word for word in placeholders(template) if word not in OUTPUT_PLACEHOLDERS]:
        known = ", ".join(f"{{{word}}}" for word in OUTPUT_PLACEHOLDERS)
        raise ValueError(f"{{{unknown[0]}}} is no placeholder; there are {known}")
    parts = template.split("/")
    if template.startswith("/") or ".." in parts or not parts[-1] or "\0" in template:
        raise ValueError('a path below the folder of the outputs, such as "{folder}/{stem}.pdf"')
    return template


def check_out(value: str) -> str:
    """Return the folder of the outputs with ``~`` expanded, or ``inbox:NAME``; "" is out/ beside done/. Raises ValueError."""
    if value == INBOX_PREFIX:
        raise ValueError('the name of the inbox is missing: "inbox:NAME"')
    if value.startswith(INBOX_PREFIX) or not value:
        return value
    if "/" not in value and not value.startswith("~"):
        raise ValueError(f'a folder, such as "/srv/out", or another inbox: "inbox:{value}"')
    return expand_home_text(value)


class OutputKeys(Section):
    """Where the outputs go, and under which names."""

    out: Annotated[str, AfterValidator(check_out)] = ""
    outputs: Annotated[str, AfterValidator(check_outputs)] = DEFAULT_OUTPUTS
    on_conflict: Literal["number", "replace", "fail"] = "number"

    @property
    def next_inbox(self) -> str:
        """The inbox to which the outputs go; "" if they go to a folder."""
        return self.out.removeprefix(INBOX_PREFIX) if self.out.startswith(INBOX_PREFIX) else ""
