"""A task of somebody else's Celery project as the handler: its worker runs in an environment without inboxd."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.live.other_project import NEW, OLD, TASK, OtherProject
from support.live.stand import Stand, Table

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
MSGPACK: dict[str, Any] = {"accept_content": ["json", "msgpack"]}
OWN_SETTINGS: dict[str, Any] = {
    "task_acks_late": True,
    "task_default_priority": 7,
    "task_default_queue": "elsewhere",
    "task_routes": {"*": {"queue": "nowhere"}},
    "task_ignore_result": True,
    "worker_prefetch_multiplier": 1,
}
"""None of them may keep an answer from coming back."""


def names_of(dropped: dict[bytes, str]) -> set[str]:
    return {path.decode().rpartition("/")[2] for path in dropped}


def console(stand: Stand, *arguments: str) -> str:
    """Return what a command prints."""
    argv = [sys.executable, "-m", "inboxd", *arguments]
    return subprocess.run(argv, env=stand.environment(), capture_output=True, text=True, check=False, timeout=60).stdout


def start(make_stand: MakeStand, **rules: object) -> Stand:
    inbox: Table = {"task": TASK, **rules}
    return make_stand({"drop": inbox}).start()


@pytest.fixture(params=["msgpack", "json", "json with Celery 5.3", "results", "settings of its own", "namespace"])
def project(request: pytest.FixtureRequest, make_stand: MakeStand) -> OtherProject:
    """A started stand, and a project that accepts msgpack, or only JSON; or whose results are in the same Redis."""
    is_json = request.param.startswith("json")
    has_namespace = request.param == "namespace"
    inbox: Table = {"task": TASK, "serializer": "json" if is_json else "msgpack", "answer_seconds": 20}
    stand = make_stand({"drop": inbox}, **({"redis": {"namespace": "ours"}} if has_namespace else {})).start()
    celery = OLD if request.param.endswith("5.3") else NEW
    conf = {} if is_json else MSGPACK | (OWN_SETTINGS if request.param.startswith("settings") else {})
    conf |= {"broker_transport_options": {"global_keyprefix": "ours:"}} if has_namespace else {}
    made = OtherProject(stand, celery, backend=request.param == "results", **conf)
    made.worker()
    return made


def test_files_are_handled_by_the_task_and_filed(project: OtherProject) -> None:
    stand = project.stand
    contents = {b"%d.txt" % number: b"content %d" % number for number in range(20)}
    contents[b"large.bin"] = b"x" * 100_000
    contents[b"caf\xc3\xa9 \xff.txt"] = b"a name that is not UTF-8"

    dropped = stand.drop_folder(b"deep", contents)
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") == dropped.keys())

    assert stand.tree("done") == dropped
    calls = project.calls()
    assert sorted(call["sha256"] for call in calls) == sorted(
        hashlib.sha256(content).hexdigest() for content in contents.values()
    )
    file = next(call["file"] for call in calls if call["file"]["filename"] == "1.txt")
    assert file["relative_path"] == "deep/1.txt"
    assert (file["name"], file["inbox"], file["attempt"], file["content_length"]) == ("drop", "drop", 1, 9)
    assert file["headers"]["Content-Type"] == file["content_type"] == "text/plain"
    assert file["sha256"] == file["headers"]["sha256"] == hashlib.sha256(b"content 1").hexdigest()
    assert {call["file"]["filename"] for call in calls} >= {"café \N{REPLACEMENT CHARACTER}.txt", "large.bin"}


def test_a_task_that_raises_rejects_or_retries_decides_what_becomes_of_the_file(project: OtherProject) -> None:
    stand = project.stand
    dropped = stand.drop_folder(
        b"x", {b"bad.txt": b"fail no such customer", b"wrong.txt": b"reject not an invoice", b"again.txt": b"retry"}
    )
    stand.wait_until(lambda: stand.has_no_pending_files() and len(stand.names("failed")) >= 4)

    assert stand.names("done") == {b"x/again.txt"}
    assert stand.tree("failed").keys() >= dropped.keys() - {b"x/again.txt"}
    assert project.names() == ["again.txt"] * 3 + ["bad.txt", "wrong.txt"]
    bad, wrong = (stand.note(b"x/%s" % name) for name in (b"bad.txt", b"wrong.txt"))
    if project.environment["BACKEND"]:
        assert "ValueError: no such customer" in bad
        assert "Reason: not an invoice" in wrong
    else:
        assert f"the task {TASK} failed; the log of its worker says why" in bad
    assert "Attempts: 1 (copies sent to the task" in bad
    traced = console(stand, "trace", "x/again.txt", str(stand.watcher.log), str(stand.worker.log))
    assert f"to the task {TASK}, by the queue celery, copy 1" in traced


@pytest.mark.parametrize("acks_late", [False, True], ids=["acks early", "acks late"])
def test_files_of_a_worker_that_is_killed_are_sent_again(make_stand: MakeStand, *, acks_late: bool) -> None:
    stand = start(make_stand, answer_seconds=8)
    project = OtherProject(stand, NEW, task_acks_late=acks_late, **MSGPACK)
    worker = project.worker()

    dropped = stand.drop_folder(b"f", {b"%d.txt" % number: b"sleep 1" for number in range(6)})
    stand.wait_until(lambda: len(project.calls()) >= 2)
    worker.kill9()
    worker.start()
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") == dropped.keys())

    assert stand.names("failed") == set()
    assert set(project.names()) == names_of(dropped)
    assert max(call["file"]["attempt"] for call in project.calls()) > 1


def test_an_answer_is_awaited_from_when_a_worker_has_received_the_message(make_stand: MakeStand) -> None:
    """And not from when a sweep has last seen it there: a killed worker's message stays where it was received."""
    stand = start(make_stand, answer_seconds=100)
    project = OtherProject(stand, NEW, task_acks_late=True, **MSGPACK)
    worker = project.worker()
    stand.drop(b"a.txt", b"sleep 600")
    stand.wait_until(project.calls)
    received_at = time.monotonic()
    worker.kill9()
    sweeps = len(stand.log_events("parcel_recovered"))
    time.sleep(5.0)  # several sweeps
    (parcel,) = [path.name for path in stand.path("claimed").iterdir()]
    until = int(stand.client.hget(f"inboxd:parcel:{parcel}", "until")) / 1000

    assert until - time.time() <= 100 - (time.monotonic() - received_at) + 1
    assert len(stand.log_events("parcel_recovered")) == sweeps


def test_a_file_whose_process_dies_is_sent_again_if_the_results_say_so(make_stand: MakeStand) -> None:
    stand = start(make_stand, answer_seconds=60)
    project = OtherProject(stand, NEW, backend=True, **MSGPACK)
    project.worker()

    stand.drop(b"once.txt", b"die 1")
    stand.drop(b"always.txt", b"die 9")
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("done") == {b"once.txt"}
    assert stand.names("failed") == {b"always.txt", b"always.txt.error.txt"}
    assert project.names() == ["always.txt"] * 3 + ["once.txt"] * 2
    assert f"the task {TASK} was sent 3 times" in stand.note(b"always.txt")


def test_a_redis_that_is_emptied_while_tasks_run_loses_no_file(make_stand: MakeStand) -> None:
    stand = start(make_stand, answer_seconds=5)
    project = OtherProject(stand, NEW, **MSGPACK)
    project.worker()

    dropped = stand.drop_folder(b"f", {b"%d.txt" % number: b"sleep 0.1" for number in range(40)})
    for calls in (5, 15):
        stand.wait_until(lambda calls=calls: len(project.calls()) >= calls)
        stand.client.flushall()
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") == dropped.keys())

    assert stand.tree("done") == dropped
    assert stand.names("failed") == set()
    assert set(project.names()) == names_of(dropped)


@pytest.mark.parametrize("result", [b"ok", b"fail a reason"], ids=["done", "failed"])
def test_an_answer_that_never_came_is_read_from_the_results(make_stand: MakeStand, result: bytes) -> None:
    stand = start(make_stand, answer_seconds=600)
    project = OtherProject(stand, NEW, backend=True, **MSGPACK)
    stand.worker.kill9()
    project.worker()

    stand.drop(b"a.txt", result)
    stand.wait_until(lambda: stand.client.llen("inboxd.host.stand") and project.calls())
    stand.wait_until(lambda: stand.client.keys("celery-task-meta-*"))
    stand.client.delete("inboxd.host.stand")
    stand.worker.start()
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("done" if result == b"ok" else "failed") >= {b"a.txt"}
    assert project.names() == ["a.txt"]


def test_a_message_that_waits_is_not_sent_again(make_stand: MakeStand) -> None:
    """With a worker that takes one file at a time, and a queue that takes much longer than an answer may."""
    stand = start(make_stand, answer_seconds=3)
    project = OtherProject(stand, NEW, task_acks_late=True, worker_prefetch_multiplier=1, **MSGPACK)

    dropped = stand.drop_folder(b"f", {b"%d.txt" % number: b"sleep 1.5" for number in range(10)})
    project.worker()
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") == dropped.keys())

    assert project.names() == sorted(names_of(dropped))


def test_a_task_that_nobody_knows_is_told_and_its_files_wait_until_it_is_known(make_stand: MakeStand) -> None:
    stand = start(make_stand, answer_seconds=600)
    project = OtherProject(stand, NEW, **MSGPACK)
    ignorant = project.worker("ignorant", app="accounts")

    dropped = stand.drop_folder(b"f", {b"%d.txt" % number: b"content" for number in range(3)})
    stand.wait_until(lambda: stand.log_events("task_unknown", stand.worker))
    status = console(stand, "status")
    explained = console(stand, "explain", str(stand.path("inbox", b"f/1.txt")))
    checked = console(stand, "check")
    assert stand.names("failed") == set()
    ignorant.kill9()
    project.worker()
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") == dropped.keys())

    assert f"has no task {TASK}" in status
    assert "consumes the queue celery and has no such task" in checked
    assert project.names() == sorted(names_of(dropped))
    assert f"has no task {TASK}" not in console(stand, "status")
    assert f"has no task {TASK}: correct the name" in explained


def test_a_queue_that_nobody_consumes_is_told_until_a_worker_does(make_stand: MakeStand) -> None:
    stand = start(make_stand, answer_seconds=600, queue="celerry")
    project = OtherProject(stand, NEW, **MSGPACK)
    project.worker("misled")

    dropped = stand.drop_folder(b"f", {b"%d.txt" % number: b"content" for number in range(3)})
    stand.wait_until(lambda: stand.log_events("queue_unconsumed", stand.worker))
    status = console(stand, "status")
    explained = console(stand, "explain", str(stand.path("inbox", b"f/1.txt")))
    project.queue = "celerry"
    project.worker()
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") == dropped.keys())
    stand.wait_until(lambda: stand.log_events("queue_consumed", stand.worker))

    assert "drop: no worker consumes the queue celerry, in which 3 files wait" in status
    assert "no worker consumes the queue celerry: start the app's worker with -Q celerry" in explained
    assert "the next follows 600 s after a worker has taken this one" in explained
    assert "no worker consumes" not in console(stand, "status")
    assert len(stand.log_events("queue_unconsumed", stand.worker)) == 1


def test_workers_that_are_busy_with_other_files_consume_the_queue(make_stand: MakeStand) -> None:
    stand = start(make_stand, answer_seconds=600)
    project = OtherProject(stand, NEW, **MSGPACK)
    project.worker("solo", "-P", "solo")
    stand.drop_folder(b"f", {b"%d.txt" % number: b"sleep 25" for number in range(3)})
    stand.wait_until(lambda: stand.client.exists("inboxd:task_unconsumed:stand:drop"))

    assert "no worker consumes" not in console(stand, "status")
    assert not stand.log_events("queue_unconsumed", stand.worker)


def test_what_the_results_of_a_worker_lack_is_noted_by_check(make_stand: MakeStand) -> None:
    stand = start(make_stand)
    OtherProject(stand, NEW, **MSGPACK).worker("without")
    assert "stores no results in Redis" in console(stand, "check")
    stand.programs["without"].kill9()

    OtherProject(stand, NEW, backend=True, task_ignore_result=True, **MSGPACK).worker("ignoring")
    assert "stores no results in Redis" in console(stand, "check")
    stand.programs["ignoring"].kill9()

    project = OtherProject(stand, NEW, backend=True, task_ignore_result=True, task_store_errors_even_if_ignored=True, **MSGPACK)
    project.worker("storing")
    assert "stores no results in Redis" not in console(stand, "check")
    stand.drop(b"a.txt", b"reject not an invoice")
    stand.wait_until(lambda: stand.names("failed"))
    assert "Reason: not an invoice" in stand.note(b"a.txt")


def test_a_worker_that_refuses_the_serializer_is_found_by_check(make_stand: MakeStand) -> None:
    stand = start(make_stand, answer_seconds=600)
    project = OtherProject(stand, NEW)
    checked = console(stand, "check")
    assert "no worker that consumes the queue celery answers" in checked
    project.worker()

    assert "does not accept msgpack" in console(stand, "check")


def test_files_that_another_handler_had_are_sent_to_the_task_after_a_change_of_the_settings(make_stand: MakeStand) -> None:
    stand = make_stand({"other": {"task": TASK}, "drop": {}})
    stand.start()
    stand.worker.kill9()
    dropped = stand.drop_folder(b"f", {b"%d.txt" % number: b"content" for number in range(5)})
    stand.wait_until(lambda: stand.names("inbox") == set())
    stand.watcher.stop()

    text = stand.settings_file.read_text("utf-8")
    stand.settings_file.write_text(f'{text}\ntask = "{TASK}"\n', "utf-8")
    stand.watcher.start()
    stand.worker.start()
    project = OtherProject(stand, NEW, **MSGPACK)
    project.worker()
    stand.wait_until(lambda: stand.has_no_pending_files() and stand.names("done") == dropped.keys())

    assert project.names() == sorted(names_of(dropped))


def test_a_failure_of_an_older_copy_is_no_failure_of_the_file(make_stand: MakeStand) -> None:
    stand = start(make_stand, answer_seconds=2, copies_max=10)
    project = OtherProject(stand, NEW, **MSGPACK)
    stand.drop(b"a.txt", b"late 20")  # a sweep that asks the workers is followed by a rest, and then sends the next copy
    stand.wait_until(lambda: stand.client.llen("celery"))
    project.worker()
    stand.wait_until(lambda: len(project.calls()) >= 2)
    stand.wait_until(stand.has_no_pending_files)
    stand.wait_until(lambda: "of a copy that was given up" in (stand.folder / "invoices.log").read_text())

    assert stand.names("done") == {b"a.txt"}
    assert stand.names("failed") == set()


def test_a_callback_for_an_inbox_without_a_task_fails_nothing(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {}, "other": {"task": TASK}}).start()
    stand.drop(b"held", b"hold")
    stand.wait_until(lambda: stand.calls(b"held"))
    (parcel,) = [path.name for path in stand.path("claimed").iterdir()]
    project = OtherProject(stand, NEW)
    script = (
        "from celery import Celery; import os, sys; app = Celery(broker=os.environ['BROKER']); "
        "app.send_task('inboxd.task_failed', args=['drop', sys.argv[1], '1'], queue='inboxd.host.stand', serializer='json')"
    )
    subprocess.run([project.python, "-c", script, parcel], env=project.environment, check=True, timeout=60)
    stand.wait_until(lambda: stand.log_events("duplicate_ignored", stand.worker))
    (stand.folder / "release").touch()
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("done") == {b"held"}


def test_a_stored_result_of_any_form_stops_no_sweep(make_stand: MakeStand) -> None:
    stand = start(make_stand, answer_seconds=3)
    stand.drop(b"a.txt", b"ok")
    stand.wait_until(lambda: stand.client.llen("celery"))
    (parcel,) = [path.name for path in stand.path("claimed").iterdir()]
    deep = b"\x82\xa6status\xa7FAILURE\xa6result\x82\xa8exc_type\xa1X\xabexc_message" + b"\x91" * 1000 + b"\xc0"
    stand.client.set(f"celery-task-meta-{parcel}", deep)
    stand.client.delete("celery")
    project = OtherProject(stand, NEW, **MSGPACK)
    project.worker()
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("done") == {b"a.txt"}
    assert not [line for line in stand.log_lines(stand.worker) if "RecursionError" in str(line)]


def test_outcomes_of_a_handler_count_after_a_change_to_a_task(make_stand: MakeStand) -> None:
    """They were stored, and their callbacks were lost."""
    stand = make_stand({"other": {"task": TASK}, "drop": {"retries": 0}})
    stand.worker.argv = (*stand.worker.argv, "-Q", "inboxd.work,inboxd.files.stand")
    stand.start()
    files = {b"ok%d" % number: b"content" for number in range(20)} | {b"no%d" % number: b"reject x" for number in range(20)}
    dropped = stand.drop_folder(b"f", files)
    stand.wait_until(lambda: len(stand.calls()) == len(dropped))
    stand.wait_until(lambda: stand.client.llen("inboxd.host.stand"))
    time.sleep(1.0)
    for program in (stand.worker, stand.watcher, stand.beat):
        program.kill9()
    stand.client.delete("inboxd.host.stand")
    stand.settings_file.write_text(f'{stand.settings_file.read_text("utf-8")}\ntask = "{TASK}"\n', "utf-8")
    stand.worker.argv = stand.worker.argv[:-2]
    for program in (stand.worker, stand.watcher, stand.beat):
        program.start()
    project = OtherProject(stand, NEW, **MSGPACK)
    project.worker()
    stand.wait_until(stand.has_no_pending_files)

    rejected = {path for path in dropped if b"/no" in path} - {b"f/" + name.encode() for name in project.names()}
    assert stand.names("failed") >= rejected
    assert not stand.names("done") & rejected
    assert len(rejected) >= 15


def test_a_task_that_becomes_known_uses_up_no_copy(make_stand: MakeStand) -> None:
    stand = start(make_stand, answer_seconds=60, copies_max=1)
    project = OtherProject(stand, NEW, **MSGPACK)
    ignorant = project.worker("ignorant", app="accounts")
    stand.drop(b"a.txt", b"ok")
    stand.wait_until(lambda: stand.log_events("task_unknown", stand.worker))
    ignorant.kill9()
    project.worker()
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("done") == {b"a.txt"}
