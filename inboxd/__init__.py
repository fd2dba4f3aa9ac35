"""A drop-folder daemon that loses no file. Handlers import InboxFile and RejectFile from here, and their tests Owner."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from inboxd.errors import RejectFile
    from inboxd.messaging.inbox_file import InboxFile, Owner

__all__ = ["InboxFile", "Owner", "RejectFile"]


def __getattr__(name: str) -> object:
    """Import a name on first access: a program must set its import path before anything is imported (see ``import_path``)."""
    if name == "InboxFile":
        from inboxd.messaging.inbox_file import InboxFile  # noqa: PLC0415

        return InboxFile
    if name == "Owner":
        from inboxd.messaging.inbox_file import Owner  # noqa: PLC0415

        return Owner
    if name == "RejectFile":
        from inboxd.errors import RejectFile  # noqa: PLC0415

        return RejectFile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
