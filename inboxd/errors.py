"""The exceptions, grouped by what the caller can do: retry (TransientError), fail the file, or exit (a bug, bad settings)."""

from dataclasses import dataclass


class InboxdError(Exception):
    """Base class of all exceptions that inboxd raises on purpose."""


class TransientError(InboxdError):
    """A service or a folder is temporarily unavailable. Nothing is lost; the caller retries later."""


class BrokerUnavailable(TransientError):
    """Redis is unreachable, times out, or refuses writes. Whether the last command took effect is unknown."""


class NamespaceConflict(BrokerUnavailable):
    """Another installation, which came first, uses the same namespace in Redis, and would mix up its files with ours."""


class FolderUnavailable(TransientError):
    """A folder is missing, was replaced, is full, or denies permission. Its contents are unknown; never treat it as empty."""


class StageUnavailable(TransientError):
    """The store of `[stage]` can't be reached or written to, or what it has of a file is not what was uploaded."""


class RejectFile(InboxdError):
    """Raised by a handler to move its file to failed/ at once, without a retry.

    The first argument is the reason, written for the person who dropped the file.
    """


class HandlerFailed(InboxdError):
    """A handler raised on its last attempt, or a command failed. The first argument is what it raised, or said, in one line."""


class RetryLater(HandlerFailed):
    """A program asks not to be called again for a time. The second argument is that time in seconds."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


class HandlerTimedOut(HandlerFailed):
    """A handler exceeded its time limit on its last attempt."""


class InvalidMessage(InboxdError):
    """A message is not a valid parcel: its version, structure or size is wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: ``where`` (a settings key or a path), the problem, and its remedy.

    A finding with ``blocks`` prevents a program's start; a full disk does not, because space may become free.
    """

    where: str
    problem: str
    remedy: str
    blocks: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}\n    remedy: {self.remedy}"


class SettingsError(InboxdError):
    """The settings, or the folders that they name, are unusable. Has every finding, not only the first."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings
