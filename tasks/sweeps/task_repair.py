"""Recovers the parcels whose files a task of another Celery app handles: its worker holds no lease, and may never answer."""

import contextlib
from collections import Counter
from typing import Any

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.leases import Lease, LeaseState
from inboxd.broker.recovery import RecoveryAction
from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.logs.text import count_in_words
from inboxd.messaging.other_app.answers import NO_ANSWER, Answer, TaskAnswer, forget_answer, read_answers
from inboxd.messaging.other_app.waiting import unknown_task_key, waiting_tasks
from inboxd.messaging.other_app.workers import ask_workers
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict
from inboxd.messaging.results import ResultRecord, no_result
from inboxd.spool.claims import list_parcels
from inboxd.spool.failure import Failure, FailureKind
from inboxd.tasks.sweeps.repair import Repair

ASKED_KEY = "inboxd:task_asked:"
BUSY_SECONDS = 3.0
ASK_SECONDS = 60
"""How often the app's workers are asked for a task that does not answer; each time takes a second."""
UNKNOWN_SECONDS = 7 * 86_400

_FINAL = (Answer.DONE, Answer.FAILED)
_log = get_logger(__name__)


class TaskRepair(Repair):
    """One recovery pass over the parcels of an inbox with ``task``.

    The lease of such a parcel says until when an answer is awaited. It is postponed while the message waits in a queue.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as Repair
        """Prepare a pass; see Repair."""
        super().__init__(*args, **options)
        self._client = self._context.client
        self._leases = self._context.leases
        self._waiting: dict[str, float] = {}
        self._answers: dict[str, TaskAnswer] = {}
        self._uncounted: set[str] = set()
        self._handled: set[str] = set()

    def run(self, *, only: RecoveryAction | None = None) -> Counter[str]:
        """Postpone the leases of what waits, then recover each parcel that needs it; see Repair."""
        if parcels := list_parcels(self._context.disk, self._folders):
            self._waiting = waiting_tasks(self._client, self._inbox.queue, self._inbox.answer_seconds)
            self._answers = read_answers(self._client, parcels)
            leases = self._leases.read(parcels)
            # a worker of inboxd's own has started them, before the settings changed
            self._handled = {parcel for parcel, lease in leases.items() if lease and lease.state is not LeaseState.QUEUED}
            self._postpone(leases)
        return super().run(only=only)

    def _postpone(self, leases: dict[str, Lease | None]) -> None:
        """Postpone the leases of what waits, and let those of what is answered lapse: their callback may be lost."""
        sweep = self._context.settings.sweep
        unanswered = []
        for parcel, lease in leases.items():
            if lease is None or lease.state is not LeaseState.QUEUED:
                continue
            if self._answers[parcel].answer in (*_FINAL, Answer.LOST):
                if lease.seconds_left > sweep.grace_seconds:
                    self._leases.requeue_if_unchanged(parcel, lease, sweep.grace_seconds)
            elif parcel not in self._waiting:
                unanswered.append(parcel)
            elif lease.seconds_left < self._waiting[parcel] - sweep.stale_seconds:
                self._leases.await_answer(parcel, self._waiting[parcel])
        if unanswered:
            self._look_for_task(unanswered)

    def _look_for_task(self, unanswered: list[str]) -> None:
        """Ask the app's workers for the task. While they have none, nothing is sent again; once they have, all of it is."""
        name = f"{self._context.host}:{self._inbox.name}"
        unknown = unknown_task_key(self._context.host, self._inbox.name)
        with translate_redis_errors():
            was_unknown = self._client.exists(unknown)
            if not was_unknown and not self._client.set(ASKED_KEY + name, "", nx=True, ex=ASK_SECONDS):
                return
        workers = None
        with contextlib.suppress(BrokerUnavailable):  # the rights may not suffice to ask
            workers = ask_workers(self._context.settings, self._inbox)
            if workers.is_unknown and not was_unknown:  # one that knows the task may be busy
                workers = ask_workers(self._context.settings, self._inbox, BUSY_SECONDS)
        if workers and workers.is_unknown:
            with translate_redis_errors():
                self._client.set(unknown, min(workers.ignorant), ex=UNKNOWN_SECONDS)
            for parcel in unanswered:
                self._leases.await_answer(parcel, self._inbox.answer_seconds)
            _log.error(
                events.TASK_UNKNOWN, inbox=self._inbox.name, task=self._inbox.task, worker=min(workers.ignorant),
                files=len(unanswered), remedy="correct the task's name, or let its app import the module; the files wait",
            )  # fmt: skip
        elif workers and was_unknown and workers.knowing:
            with translate_redis_errors():
                self._client.delete(unknown)
            for parcel in unanswered:
                forget_answer(self._client, parcel)
                self._leases.expire(parcel, crashed=False)
            self._uncounted = set(unanswered)

    def _find_queued(self, parcels: list[str]) -> frozenset[str]:
        del parcels
        return frozenset(self._waiting)

    def _read_results(self, parcels: list[str]) -> dict[str, ResultRecord]:
        own = super()._read_results([parcel for parcel in parcels if parcel in self._handled])
        return {parcel: own.get(parcel, no_result()) for parcel in parcels}  # those of tasks are in another form

    def _is_final(self, parcel: str, stored: ResultRecord) -> bool:
        if parcel in self._handled:
            return super()._is_final(parcel, stored)
        return self._answers.get(parcel, NO_ANSWER).answer in _FINAL

    def _apply_stored(self, parcel: str, paths: list[bytes], stored: ResultRecord, lease: Lease | None) -> bool:
        if parcel in self._handled:
            return super()._apply_stored(parcel, paths, stored, lease)
        answer = self._answers[parcel]
        if answer.answer is Answer.FAILED:
            self._applier.apply_task_failure(parcel, lease, answer.failure)
        else:
            files = tuple(FileOutcome(path, Verdict.DONE) for path in paths)
            self._applier.apply(Outcome(parcel, self._inbox.name, lease.crashes + 1 if lease else 1, files))
        return True

    def _republish(self, parcel: str, paths: list[bytes], lease: Lease | None) -> None:
        """Send a file again, because no answer came; after ``copies_max`` copies, fail it."""
        if len(paths) != 1:
            super()._republish(parcel, paths, lease)
            return
        grace = self._context.settings.sweep.grace_seconds
        is_counted = lease is not None and parcel not in self._uncounted
        copies = self._leases.requeue_if_unchanged(parcel, lease, grace, crashed=is_counted)
        if copies is None:
            return
        if copies >= self._inbox.copies_max:
            reason = (
                f"the task {self._inbox.task} was sent {count_in_words(copies)}, and gave no answer within "
                f"{self._inbox.answer_seconds:g} s: the log of its worker may say why"
            )
            self._applier.apply_task_failure(parcel, lease, Failure(FailureKind.CRASHED, reason))
            return
        forget_answer(self._client, parcel)
        self._applier.republish(parcel, paths, retries=copies)
