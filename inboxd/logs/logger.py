"""Loggers that import structlog at their first event: it takes as long as all modules of a command that logs nothing."""

import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class _Logger:
    """Passes each call on to a structlog logger; before ``configure_logging`` to one that writes to stderr."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._configured: FilteringBoundLogger | None = None

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - a method of structlog's
        return getattr(self._configured or self._find(), method)

    def _find(self) -> "FilteringBoundLogger":
        import structlog  # noqa: PLC0415 - see the module's first line

        if structlog.is_configured():
            self._configured = structlog.get_logger(module=self._module)
            return self._configured
        # stdout is for a program's own output
        return cast("FilteringBoundLogger", structlog.wrap_logger(structlog.PrintLogger(sys.stderr), module=self._module))


def get_logger(name: str) -> "FilteringBoundLogger":
    """Return a logger whose events have ``name`` as their ``module``."""
    return cast("FilteringBoundLogger", _Logger(name))
