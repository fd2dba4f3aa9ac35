"""Asks the workers of another Celery app, by Celery's remote control, what they consume, know and accept."""

from dataclasses import dataclass
from typing import Any

from celery import Celery

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import Finding
from inboxd.messaging.celery_app import celery_configuration
from inboxd.messaging.remote_control import ask_all

ANSWER_SECONDS = 0.7
_OWN_KEYS = ("broker_url", "broker_transport_options", "redis_socket_timeout", "redis_socket_connect_timeout")


@dataclass(frozen=True, slots=True)
class OtherWorkers:
    """The workers that answer: those that consume the queue, those that know the task, and those that refuse the serializer."""

    consuming: frozenset[str]
    knowing: frozenset[str]
    refusing: frozenset[str]
    silent: frozenset[str] = frozenset()
    """Those that store no results, so that why a task has failed is not known."""

    @property
    def ignorant(self) -> frozenset[str]:
        """Those that consume the queue and have no such task: they discard what they get."""
        return self.consuming - self.knowing

    @property
    def is_unknown(self) -> bool:
        """Whether workers consume the queue, and none of them has the task."""
        return bool(self.consuming) and not self.consuming & self.knowing


def ask_workers(settings: Settings, inbox: Inbox, seconds: float = ANSWER_SECONDS, *, conf: bool = False) -> OtherWorkers:
    """Return what the workers of an inbox's task say within a few seconds, with ``conf`` also of their settings.

    They are asked in JSON, Celery's default, and if that says nothing of the queue, in the task's own serializer. Raises
    BrokerUnavailable.
    """
    workers = _ask(settings, inbox, "json", seconds, conf=conf)
    if workers.consuming or inbox.serializer == "json":
        return workers
    return _ask(settings, inbox, inbox.serializer, seconds, conf=conf)


def _ask(settings: Settings, inbox: Inbox, serializer: str, seconds: float, *, conf: bool) -> OtherWorkers:
    app = Celery("inboxd-asks", set_as_current=False)
    own = celery_configuration(settings, results=False)
    app.conf.update({key: own[key] for key in _OWN_KEYS})
    app.conf.update({"task_serializer": serializer, "accept_content": ["json", "msgpack"]})
    with app:
        queues = ask_all(app, "active_queues", seconds)
        tasks = ask_all(app, "registered", seconds) if queues else []
        said = dict(ask_all(app, "conf", seconds)) if queues and conf else {}
    consuming = frozenset(name for name, rows in queues if inbox.queue in _names_of(rows))
    return OtherWorkers(
        consuming,
        frozenset(name for name, known in tasks if inbox.task in {text.split(" ")[0] for text in known or ()}),
        frozenset(name for name in consuming if not _accepts(said.get(name), inbox.serializer)),
        frozenset(name for name in consuming if not _stores_errors(said.get(name))),
    )


def _names_of(rows: Any) -> set[str]:  # noqa: ANN401 - what a worker has said
    return {str(row.get("name")) for row in rows or () if isinstance(row, dict)}


def _accepts(conf: Any, serializer: str) -> bool:  # noqa: ANN401 - what a worker has said
    """Return whether a worker accepts a serializer; True if it does not say: Celery's default is JSON."""
    if not isinstance(conf, dict):
        return True
    accepted = conf.get("accept_content", ["json"])
    return any(serializer in str(name) for name in accepted)


def _stores_errors(conf: Any) -> bool:  # noqa: ANN401 - what a worker has said
    if not isinstance(conf, dict):
        return True
    is_ignored = conf.get("task_ignore_result") and not conf.get("task_store_errors_even_if_ignored")
    return "redis" in str(conf.get("result_backend")) and not is_ignored


def find_worker_problems(settings: Settings, inbox: Inbox) -> list[Finding]:
    """Return what keeps the other app's workers from taking an inbox's files. Raises BrokerUnavailable."""
    where = f"inbox.{inbox.name}.task = {inbox.task!r}"
    workers = ask_workers(settings, inbox, conf=True)
    if not workers.consuming:
        problem = f"no worker that consumes the queue {inbox.queue} answers: the files wait until one does"
        remedy = f"start the app's worker with -Q {inbox.queue}, on the Redis of redis.url; or correct queue"
        return [Finding(where, problem, remedy, blocks=False)]
    findings = []
    if workers.ignorant:
        problem = f"the worker {min(workers.ignorant)} consumes the queue {inbox.queue} and has no such task: it discards files"
        findings.append(Finding(where, problem, "correct the task's name, or let its app import it (include=)", blocks=False))
    if workers.refusing:
        problem = f"the worker {min(workers.refusing)} does not accept {inbox.serializer}: it discards files"
        remedy = "set accept_content = ['json', 'msgpack'] in its app, or serializer = \"json\" here"
        findings.append(Finding(where, problem, remedy, blocks=False))
    if workers.silent:
        problem = f"the worker {min(workers.silent)} stores no results in Redis: notes can't say why a file has failed"
        remedy = "set result_backend in its app to the same Redis, and task_store_errors_even_if_ignored = True"
        findings.append(Finding(where, problem, remedy, blocks=False))
    return findings
