"""Celery's pool of child processes: a spent child is replaced after its task, and nothing that it has started outlives it."""

import os
import sys
from collections.abc import Callable
from typing import Any

from billiard.pool import EX_RECYCLE
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.asynpool import Worker as PoolChild
from celery.concurrency.prefork import TaskPool

from inboxd.tasks.process_state.child_guard import ChildGuard, children, end_processes


def guarded_pool(guard: ChildGuard) -> type[TaskPool]:
    """Return a class of pools whose children look at ``guard``, of which each has its own copy."""

    class Child(PoolChild):
        """A child that ends before its next task if it is spent."""

        def _make_child_methods(self, *arguments: Any) -> None:  # noqa: ANN401 - billiard's own signature
            child: Any = super()
            child._make_child_methods(*arguments)  # noqa: SLF001
            receive: Callable[[], object] = vars(self)["wait_for_job"]

            def receive_unless_spent() -> object:
                if guard.is_spent:
                    sys.exit(EX_RECYCLE)  # billiard replaces the child, as one that has done its number of tasks
                return receive()

            self.wait_for_job = receive_unless_spent

    class GuardedAsynPool(AsynPool):
        """A pool that kills what an exited child has left: such orphans become children of this process."""

        Worker = Child

        def _join_exited_workers(self, shutdown: bool = False) -> list[int | None]:
            pool: Any = super()
            exited: list[int | None] = pool._join_exited_workers(shutdown)  # noqa: SLF001
            if exited:
                own = [child.pid for child in vars(self)["_pool"]]
                end_processes(lambda: children(os.getpid()).difference(own))
            return exited

    class GuardedPool(TaskPool):
        Pool = GuardedAsynPool

    return GuardedPool
