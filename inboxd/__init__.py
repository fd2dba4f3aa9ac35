"""A drop-folder daemon that loses no file. Handlers import InboxFile and RejectFile from here."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from inboxd.errors import RejectFile
    from inboxd.messaging.inbox_file import InboxFile

__all__ = ["InboxFile", "RejectFile"]


def __getattr__(name: str) -> object:
    """Import a name on first access: a program must set its import path before anything is imported (see ``import_path``)."""
    if name == "InboxFile":
        from inboxd.messaging.inbox_file import InboxFile  # noqa: PLC0415

        return InboxFile
    if name == "RejectFile":
        from inboxd.errors import RejectFile  # noqa: PLC0415

        return RejectFile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
