"""Chains of programs: each has the file and the outputs of those before; a later attempt begins at the one that failed."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from support.crash.spool_scenarios import PARCEL, P
from support.disk.spools import Spool

from inboxd import InboxFile, RejectFile
from inboxd.config.handler_kinds import HandlerKeys
from inboxd.fs.syscalls import Disk
from inboxd.handling.run_handler import HandlerCall, load_handler, run_handler
from inboxd.messaging.outcome import Verdict
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.claims import remove_if_empty
from inboxd.spool.delivery import finish_outputs
from inboxd.spool.filing import move_to_done

HERE = f"{__name__}:"
CONTENT = b"content"
calls: list[str] = []
fail: dict[str, BaseException] = {}


def step(name: str, file: InboxFile) -> str:
    """Read the file, write an output with the names of all that were made before, and fail if it is to."""
    calls.append(name)
    assert file.read() == CONTENT
    before = sorted(path.name for path in file.outputs_folder.iterdir())
    with file.output(name) as output:
        output.write(json.dumps(before).encode())
    if name in fail:
        raise fail.pop(name)
    return name


def one(file: InboxFile) -> str:
    with file:
        return step("one", file)


async def two(file: InboxFile) -> str:
    await asyncio.sleep(0)
    return step("two", file)


def three(file: InboxFile) -> str:
    (file.outputs_folder / "one").unlink(missing_ok=True)
    return step("three", file)


@pytest.fixture(autouse=True)
def _nothing_called() -> Iterator[None]:
    calls.clear()
    fail.clear()
    yield
    fail.clear()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool.make(tmp_path / "drop")
    spool.put(P + b"x/a.pdf", CONTENT)
    return spool


Run = Callable[..., HandlerCall]


@pytest.fixture
def run(spool: Spool) -> Run:
    def run(attempt: int, *steps: object, on_this_host: bool = True) -> HandlerCall:
        handler = load_handler(
            HandlerKeys.model_validate({"handler": list(steps or (HERE + "one", HERE + "two", HERE + "three"))})
        )
        part = FilePart(b"x/a.pdf", "", len(CONTENT), {"id": "1", "mtime": spool.where(P + b"x/a.pdf").stat().st_mtime}, None)
        if not on_this_host:
            part = FilePart(b"x/a.pdf", "", len(CONTENT), {"id": "1"}, CONTENT)
        parcel = Parcel(PARCEL, "drop", "here", bytes(spool.root), (part,))
        with ParcelReader(Disk(), parcel, on_this_host=on_this_host, attempt=attempt) as reader:
            return run_handler(handler, reader.open(part), 60, 0.0)

    return run


def deliver(spool: Spool) -> dict[str, bytes]:
    with spool.folders() as folders:
        move_to_done(Disk(), folders, PARCEL, b"x/a.pdf")
        remove_if_empty(Disk(), folders, PARCEL)
        list(finish_outputs(Disk(), folders, PARCEL))
        assert remove_if_empty(Disk(), folders, PARCEL)
    return {path.decode(): content for path, content in spool.files().items() if path.startswith(b"out/")}


def test_each_step_gets_the_file_and_what_was_made_before(run: Run, spool: Spool) -> None:
    ended = run(1)

    assert (ended.verdict, ended.result, calls) == (Verdict.DONE, "three", ["one", "two", "three"])
    assert deliver(spool) == {"out/x/two": b'["one"]', "out/x/three": b'["two"]'}


@pytest.mark.parametrize("failing", ["one", "two", "three"])
def test_a_later_attempt_begins_at_the_step_that_failed(run: Run, spool: Spool, failing: str) -> None:
    fail[failing] = KeyError("customer")

    first = run(1)
    done_before = calls[:-1]
    calls.clear()
    second = run(2)

    names = ["one", "two", "three"]
    assert (first.verdict, second.verdict) == (Verdict.RETRY_ISOLATED, Verdict.DONE)
    assert first.reason == f"step {names.index(failing) + 1} of 3, {HERE}{failing}: KeyError: 'customer'"
    assert done_before + calls == names
    assert deliver(spool) == {"out/x/two": b'["one"]', "out/x/three": b'["two"]'}


def test_a_step_that_rejects_says_which_to_the_log_and_its_reason_to_people(run: Run) -> None:
    fail["two"] = RejectFile("a virus")

    ended = run(1)

    assert (ended.verdict, ended.reason, ended.step) == (Verdict.REJECTED, "a virus", f"step 2 of 3, {HERE}two")


def test_a_step_that_is_too_slow_is_named(run: Run) -> None:
    fail["two"] = SoftTimeLimitExceeded()

    ended = run(1)

    assert ended.reason == f"processing took longer than 60 s: step 2 of 3, {HERE}two"
    assert ended.timed_out


def test_commands_and_functions_share_the_outputs(run: Run, spool: Spool) -> None:
    copy = {"command": ["cp", "{path}", "{outputs}/copy"]}
    ended = run(1, copy, {"command": ["sh", "-c", 'test -e "$1/copy"', "sh", "{outputs}"]}, HERE + "one")

    assert ended.verdict is Verdict.DONE
    assert deliver(spool) == {"out/x/copy": CONTENT, "out/x/one": b'["copy"]'}


def test_a_command_that_fails_is_named_and_is_not_repeated_before_it(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = {"command": ["sh", "-c", f"echo first >>{log}"]}
    second = {"command": ["sh", "-c", f"echo second >>{log}; echo no space >&2; exit 75"]}

    reasons = [run(attempt, first, second).reason for attempt in (1, 2, 3)]

    assert reasons == ["step 2 of 2, command sh: sh ended with exit code 75: no space"] * 3
    assert log.read_text().split() == ["first", "second", "second", "second"]


def test_a_changed_file_or_step_begins_anew(run: Run, spool: Spool) -> None:
    fail["two"] = KeyError("x")
    run(1)
    calls.clear()
    fail["two"] = KeyError("x")
    run(2, HERE + "one", HERE + "two", HERE + "one")  # the step that failed, and those before, are the same
    assert calls == ["two"]
    calls.clear()
    fail["two"] = KeyError("x")
    run(3, {"handler": HERE + "one", "nice": 1}, HERE + "two")
    assert calls == ["one", "two"]
    calls.clear()
    path = spool.where(P + b"x/a.pdf")
    path.write_bytes(b"CONTENT")
    path.write_bytes(CONTENT)

    run(4)

    assert calls == ["one", "two", "three"]


def test_on_another_host_a_chain_works_from_its_beginning(run: Run) -> None:
    fail["two"] = KeyError("x")

    run(1, on_this_host=False)
    calls.clear()
    ended = run(2, on_this_host=False)

    assert calls == ["one", "two", "three"]
    assert dict(ended.outputs) == {b"x/two": b'["one"]', b"x/three": b'["two"]'}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"handler": ["a:b", {"nice": 1}]}, "each step is a text"),
        ({"handler": ["a:b", "c"]}, "module:function"),
        ({"handler": ["a:b"], "steps": ["a:b"]}, "has both handler and steps"),
        ({"steps": ["a:b"], "command": ["true"]}, "has both command and steps"),
        ({"steps": [{"command": ["true"], "url": "http://localhost"}]}, "has both command and url"),
        ({"steps": [{"task": "a.b"}]}, "Extra inputs"),
        ({"steps": [{"url": "http://a", "secret_file": "x"}, {"url": "http://b", "secret_file": "y"}]}, "only one step"),
    ],
)
def test_what_is_no_chain_is_refused(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        HandlerKeys.model_validate(keys)
