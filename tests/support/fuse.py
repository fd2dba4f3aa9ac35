"""A disk that dies at its n-th operation, or fails there once: a test blows it at 1, 2, 3 … until the path completes."""

from collections.abc import Callable


class Blown(BaseException):
    """The process is dead: nothing that catches Exception sees it, and no operation follows."""


class Fuse:
    """Passes every operation on and counts it; closing is free, for the system closes what a dead process had open.

    At operation ``blow_at`` it raises Blown, before or ``after`` the operation, and at every later one, too. With ``error`` it
    raises that instead, once, and lives on.
    """

    def __init__(self, behind: object, blow_at: int, *, after: bool = False, error: OSError | None = None) -> None:
        self._behind = behind
        self._blow_at = blow_at
        self._after = after
        self._error = error
        self.count = 0

    @property
    def blown(self) -> bool:
        """Whether it got as far as the operation that it was to blow at."""
        return self.count >= self._blow_at

    def __getattr__(self, name: str) -> Callable[..., object]:
        operation = getattr(self._behind, name)
        return operation if name == "close" else lambda *args, **kwargs: self._count(operation, args, kwargs)

    def _count(self, operation: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        self.count += 1
        here = self.count == self._blow_at
        if here and self._error is not None:
            raise self._error
        if self._error is None and (self.count > self._blow_at or (here and not self._after)):
            raise Blown
        result = operation(*args, **kwargs)
        if here and self._after:
            raise Blown
        return result
