"""What a parcel's result record says, as Celery stored it: whether it is final, the outcome, or the reason of a failure."""

from celery.states import FAILURE, REVOKED, SUCCESS

from inboxd.errors import HandlerFailed, HandlerTimedOut, InvalidMessage, RejectFile
from inboxd.logs.text import escape
from inboxd.messaging.outcome import Outcome, outcome_from_wire
from inboxd.messaging.results import ResultRecord
from inboxd.spool.failure import Failure, FailureKind

CANCELLED = "cancelled by an operator, by Celery's remote control (revoke)"

_FINAL_ERRORS = {
    RejectFile.__name__: FailureKind.REJECTED,
    HandlerFailed.__name__: FailureKind.RAISED,
    HandlerTimedOut.__name__: FailureKind.TIME_LIMIT,
}
"""Task errors that fail a file for good, and their kinds; after any other error the parcel is published again."""
_HARD_LIMIT = "TimeLimitExceeded"
"""The error that Celery stores after it has killed a child that did not end at its time limit."""


def is_final_result(stored: ResultRecord) -> bool:
    """Return whether a stored result is final: a success, a cancellation, or a failure that the handler has caused."""
    if stored["status"] == FAILURE:
        return _exception_name(stored) in _FINAL_ERRORS
    return stored["status"] in (SUCCESS, REVOKED)


def is_cancelled(stored: ResultRecord) -> bool:
    """Return whether an operator has cancelled the parcel."""
    return bool(stored["status"] == REVOKED)


def stored_outcome(stored: ResultRecord, parcel: str, inbox: str) -> Outcome | None:
    """Return a parcel's outcome, None if it has failed. Raises InvalidMessage if it is malformed, or another parcel's."""
    if stored["status"] != SUCCESS:
        return None
    outcome = outcome_from_wire(stored.get("result"))
    if (outcome.parcel, outcome.inbox) != (parcel, inbox):
        raise InvalidMessage(f"the outcome of another parcel: {outcome.parcel} of {escape(outcome.inbox)}")
    return outcome


def stored_failure(stored: ResultRecord) -> Failure:
    """Return why a parcel has failed."""
    if is_cancelled(stored):
        return Failure(FailureKind.CANCELLED, CANCELLED)
    kind = _FINAL_ERRORS.get(_exception_name(stored), FailureKind.RAISED)
    return Failure(kind, escape(str(stored.get("result"))))


def is_killed_by_limit(stored: ResultRecord) -> bool:
    """Return whether the parcel's last worker was killed because its handler did not end at the time limit."""
    return stored["status"] == FAILURE and _exception_name(stored) == _HARD_LIMIT


def _exception_name(stored: ResultRecord) -> str:
    error = stored.get("result")
    if isinstance(error, BaseException):
        return type(error).__name__
    return str(error.get("exc_type", "")) if isinstance(error, dict) else ""
