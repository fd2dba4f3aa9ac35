"""Both callbacks of one parcel, each delivered twice and at the same time, file the parcel once."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from support.live.stand import Stand

from inboxd.config.settings import Settings
from inboxd.errors import HandlerFailed
from inboxd.messaging.celery_app import FAILURE_CALLBACK, SUCCESS_CALLBACK, make_app
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.messaging.queues import host_queue
from inboxd.spool.layout import new_parcel_id

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]  # the warning is from Celery


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield a stand that runs a server and a worker: only callbacks move files."""
    with Stand(tmp_path_factory.mktemp("callbacks")) as new_stand:
        new_stand.redis.start()
        new_stand.worker.start()
        yield new_stand


@pytest.fixture
def app(stand: Stand) -> Iterator[Celery]:
    settings = Settings(host="stand", redis={"url": f"unix://{stand.socket}"}, inbox={"drop": {"root": str(stand.root())}})
    with make_app(settings, results=True) as new_app:
        yield new_app


def claim_file(stand: Stand, name: bytes) -> str:
    """Write a file into a new parcel, as after its handler has run; return the parcel."""
    parcel = new_parcel_id()
    folder = stand.path("claimed", parcel.encode())
    folder.mkdir(mode=0o700)
    (folder / Path(name.decode())).write_bytes(b"handled")
    return parcel


def deliver(stand: Stand, app: Celery, parcel: str, name: bytes) -> None:
    """Send both callbacks twice, in random order, and wait until the worker has run all of them."""
    outcome = outcome_to_wire(Outcome(parcel, "drop", 1, (FileOutcome(name, Verdict.DONE),)))
    messages = [(SUCCESS_CALLBACK, [outcome]), (FAILURE_CALLBACK, ["drop", parcel])] * 2
    random.Random(parcel).shuffle(messages)
    queue = host_queue("stand")
    for task, args in messages:
        app.send_task(task, args=args, queue=queue, ignore_result=True)
    stand.wait_until(lambda: not stand.client.llen(queue) and not stand.client.hlen("inboxd.unacked"))


def test_a_successful_parcel_is_filed_to_done_once(stand: Stand, app: Celery) -> None:
    names = [b"well %d.txt" % number for number in range(20)]

    for name in names:
        parcel = claim_file(stand, name)
        app.backend.store_result(
            parcel, outcome_to_wire(Outcome(parcel, "drop", 1, (FileOutcome(name, Verdict.DONE),))), "SUCCESS"
        )
        deliver(stand, app, parcel, name)

    assert {name for name in stand.names("done") if name.startswith(b"well")} == set(names)
    assert list(stand.path("claimed").iterdir()) == []
    assert stand.names("failed") == set()
    assert len(stand.log_events("file_done")) == len(names)
    assert_no_error(stand)


def test_a_failed_parcel_is_filed_once_by_the_callback_that_comes_first(stand: Stand, app: Celery) -> None:
    names = [b"both %d.txt" % number for number in range(20)]

    for name in names:
        parcel = claim_file(stand, name)
        app.backend.mark_as_failure(parcel, HandlerFailed("it was broken"), traceback="")
        deliver(stand, app, parcel, name)

    done, failed = ({name for name in stand.names(folder) if name.startswith(b"both")} for folder in ("done", "failed"))
    files = {name for name in failed if not name.endswith(b".error.txt")}
    assert files | done == set(names)
    assert files & done == set()
    assert {name + b".error.txt" for name in files} == failed - files
    assert all("it was broken" in stand.note(name) for name in files)
    assert list(stand.path("claimed").iterdir()) == []
    assert_no_error(stand)


def assert_no_error(stand: Stand) -> None:
    assert [line for line in stand.log_lines(stand.worker) if line["level"] in {"error", "critical"}] == []
