"""The headers of a dropped file: a mapping without regard to case, as those of the web frameworks' uploaded files."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from email.message import Message
from typing import Any

Value = str | float


class UploadHeaders(MutableMapping[str, Value]):
    """Headers by name; ``headers["content-type"]`` and ``headers["Content-Type"]`` are one.

    Accepted wherever Werkzeug's and Starlette's headers are: ``FileStorage(stream, headers=file.headers)`` has type and length.
    """

    def __init__(self, headers: Mapping[str, Value]) -> None:
        self._headers = {name.lower(): (name, value) for name, value in headers.items()}

    def __getitem__(self, name: str) -> Value:
        return self._headers[name.lower()][1]

    def __setitem__(self, name: str, value: Value) -> None:
        self._headers[name.lower()] = (name, value)

    def __delitem__(self, name: str) -> None:
        del self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._headers.values())

    def __len__(self) -> int:
        return len(self._headers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {str(name).lower(): value for name, value in self.items()} == {str(k).lower(): v for k, v in other.items()}

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"UploadHeaders({dict(self)!r})"

    def get(
        self,
        name: str,
        default: Any = None,  # noqa: ANN401 - Werkzeug's signature
        type: Callable[[Any], Any] | None = None,  # noqa: A002
    ) -> Any:  # noqa: ANN401
        """Return a header, converted by ``type``; ``default`` if there is none, or if ``type`` raises ValueError."""
        if name not in self:
            return default
        try:
            return self[name] if type is None else type(self[name])
        except ValueError:
            return default

    def getlist(self, name: str) -> list[Value]:
        """Return a list of the header's only value, or an empty one."""
        return [self[name]] if name in self else []


def parse_content_type(content_type: str) -> tuple[str, dict[str, str]]:
    """Return a content type's media type in lower case, and its parameters: {"charset": "utf-8"}."""
    if ";" not in content_type:
        return content_type.strip().lower(), {}
    message = Message()
    message["Content-Type"] = content_type
    parameters = message.get_params(failobj=[], unquote=True)[1:]
    return content_type.partition(";")[0].strip().lower(), {name.lower(): value for name, value in parameters if value}
