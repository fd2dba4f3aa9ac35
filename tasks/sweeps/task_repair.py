"""Recovers the parcels whose files a task of another Celery app handles: its worker holds no lease, and may never answer."""

from collections import Counter
from typing import Any

from inboxd.broker.leases import Lease, LeaseState
from inboxd.broker.recovery import RecoveryAction
from inboxd.logs.text import count_in_words
from inboxd.messaging.other_app.answers import NO_ANSWER, Answer, TaskAnswer, forget_answer, read_answers
from inboxd.messaging.other_app.waiting import queued_tasks, received_tasks
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict
from inboxd.messaging.results import ResultRecord, no_result
from inboxd.spool.claims import list_parcels
from inboxd.spool.failure import Failure, FailureKind
from inboxd.tasks.sweeps.repair import Repair
from inboxd.tasks.sweeps.task_faults import TaskFaultFinder, TaskNews

_FINAL = (Answer.DONE, Answer.FAILED)


class TaskRepair(Repair):
    """One recovery pass over the parcels of an inbox with ``task``.

    The lease of such a parcel says until when an answer is awaited. It is postponed while the message waits in a queue.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as Repair
        """Prepare a pass; see Repair."""
        super().__init__(*args, **options)
        self._client = self._context.client
        self._leases = self._context.leases
        self._faults = TaskFaultFinder(self._context, self._inbox)
        self._queued: set[str] = set()
        self._waiting: dict[str, float] = {}
        self._answers: dict[str, TaskAnswer] = {}
        self._uncounted: set[str] = set()
        self._handled: set[str] = set()

    def run(self, *, only: RecoveryAction | None = None) -> Counter[str]:
        """Postpone the leases of what waits, then recover each parcel that needs it; see Repair."""
        if parcels := list_parcels(self._context.disk, self._folders):
            answer_seconds = self._inbox.answer_seconds
            # the queue first: what a worker receives in between is seen among what was received
            self._queued = queued_tasks(self._client, self._inbox.queue)
            self._waiting = dict.fromkeys(self._queued, answer_seconds) | received_tasks(self._client, answer_seconds)
            self._answers = read_answers(self._client, parcels)
            leases = self._leases.read(parcels)
            # a worker of inboxd's own has started them, before the settings changed
            self._handled = {parcel for parcel, lease in leases.items() if lease and lease.state is not LeaseState.QUEUED}
            unanswered = self._postpone(leases)
            if only is None:  # asking takes seconds, which a worker that stops has not
                self._look_for_faults(parcels, unanswered)
        elif only is None:
            self._faults.end_all()
        return super().run(only=only)

    def _postpone(self, leases: dict[str, Lease | None]) -> list[str]:
        """Postpone the leases of what waits, and let those of what is answered lapse: their callback may be lost.

        Return the parcels that have left the queue, and are not answered.
        """
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
        return unanswered

    def _look_for_faults(self, parcels: list[str], unanswered: list[str]) -> None:
        """While no worker has the task, nothing is sent again; once one has it, all of it is."""
        queued = [parcel for parcel in parcels if parcel in self._queued]
        has_taken = bool(unanswered) or any(parcel in self._waiting and parcel not in self._queued for parcel in parcels)
        match self._faults.look(queued, unanswered, has_taken=has_taken):
            case TaskNews.UNKNOWN:
                for parcel in unanswered:
                    self._leases.await_answer(parcel, self._inbox.answer_seconds)
            case TaskNews.KNOWN_AGAIN:
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
