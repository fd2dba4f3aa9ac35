"""The errors, sorted by what the caller can do: try again (weather), give up (a bad file), stop (a bug, bad settings)."""

from dataclasses import dataclass


class InboxdError(Exception):
    """The root of all that inboxd raises on purpose."""


class TransientError(InboxdError):
    """Something outside is away just now. Nothing is lost; the caller tries again later."""


class BrokerUnavailable(TransientError):
    """Redis can't be reached, is too slow, or refuses writes. Whether the last message got through is unknown."""


class FolderUnavailable(TransientError):
    """A folder is missing, changed under us, full or not permitted: what it holds is unknown, never "empty"."""


class RejectFile(InboxdError):
    """A handler's final word on a file: it goes to failed/ at once, and is not tried again.

    The first argument is the reason, in words for the person who dropped the file.
    """


class HandlerFailed(InboxdError):
    """A handler raised, and has no attempt left. The first argument says what it raised, in one line."""


class InvalidMessage(InboxdError):
    """A message that is no parcel of ours: wrong version, shape or size."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where (a settings key or a path), what, and the remedy.

    A program does not start with a finding that ``blocks``; a full disk does not, since it may pass.
    """

    where: str
    problem: str
    remedy: str
    blocks: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}\n    remedy: {self.remedy}"


class SettingsError(InboxdError):
    """The settings, or the folders they name, can't be used. Carries every finding at once."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings
