"""What remote control, and so Flower, reports about a worker's tasks."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from support.disk.spools import Spool
from support.parts.fake_context import make_worker_context
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.messaging.celery_app import FAILURE_CALLBACK, PROCESS, SUCCESS_CALLBACK
from inboxd.tasks.outcomes import callbacks
from inboxd.tasks.process_state.shared_settings import CurrentContext
from inboxd.tasks.processing import process_parcel

SECRET = "what a handler returned"


@pytest.fixture
def registered(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Return the options with which the tasks about parcels are registered."""
    options_by_name: dict[str, dict[str, Any]] = {}

    def task(**options: object) -> Callable[[object], object]:
        options_by_name[str(options["name"])] = options
        return lambda function: function

    app: Any = SimpleNamespace(task=task)
    current = CurrentContext(make_worker_context(Spool.make(tmp_path / "drop").inbox(), FakeLeases(), FakePublisher()))
    process_parcel.register(app, current)
    callbacks.register(app, current)
    return options_by_name


def _nothing(_wire: object) -> None:
    """Serve as a task's function."""


@pytest.mark.parametrize("name", [PROCESS, SUCCESS_CALLBACK, FAILURE_CALLBACK])
def test_a_request_reports_only_the_senders_text_for_its_arguments(name: str, registered: dict[str, dict[str, Any]]) -> None:
    app = Celery("alone", set_as_current=False)
    task = app.task(shared=False, **registered[name])(_nothing)
    headers = {"id": "1", "task": name, "argsrepr": "shown", "kwargsrepr": ""}
    message: Any = SimpleNamespace(headers=headers, delivery_info={}, properties={})

    request = task.Request(message, app=app, task=task, decoded=True, body=([SECRET], {}, {}), headers=headers)

    assert request.info()["args"] == "shown"
    assert SECRET not in str(request.info())
