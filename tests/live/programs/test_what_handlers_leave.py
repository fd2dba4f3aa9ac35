"""What a handler leaves behind in its process reaches no other file; what it has started ends with it."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]


def handle(stand: Stand, name: bytes, command: bytes, inbox: str = "drop", seconds: float = 90.0) -> Any:  # noqa: ANN401
    """Drop a file whose handler executes a command, wait until it is filed, and return the handler's result."""
    stand.drop(name, command, inbox)
    stand.wait_until(lambda: name in stand.names("done", inbox) | stand.names("failed", inbox), seconds)
    lines = [line for line in stand.log_events("file_handled") if line["file"] == name.decode() and "result" in line]
    return lines[-1]["result"] if lines else None


def processes(argument: str) -> int:
    """Return the number of running `sleep` processes with this argument."""
    result = subprocess.run(["pgrep", "-fc", f"^sleep {argument}$"], capture_output=True, text=True, check=False)
    return int(result.stdout)


@pytest.fixture
def one_child(make_stand: MakeStand) -> Stand:
    """Return a stand with two inboxes, and a worker with one child process."""
    stand = make_stand({"drop": {"retries": 0}, "other": {"retries": 0}}, work={"child_files_max": 64})
    stand.worker.argv = (*stand.worker.argv[:-1], "1")
    return stand.start()


def test_the_process_is_as_it_was_for_the_next_file(one_child: Stand) -> None:
    before = handle(one_child, b"before", b"probe", "other")

    handle(one_child, b"leaves", b"leave")
    handle(one_child, b"sub", b"leave")
    after = handle(one_child, b"after", b"probe", "other")

    assert after == before
    (line,) = [line for line in one_child.log_events("handler_left") if "umask" in line["changed"]]
    assert {"umask", "current folder", "environment"} <= set(line["changed"])


def test_a_process_with_leaked_files_is_replaced_and_no_file_fails(one_child: Stand) -> None:
    first = handle(one_child, b"first", b"leak 100")

    second = handle(one_child, b"second", b"leak 0")

    assert first != second
    assert one_child.log_events("child_spent")
    assert one_child.names("failed") == set()


def test_one_leak_for_each_of_many_files_fails_none(one_child: Stand) -> None:
    for number in range(300):
        one_child.drop(b"%d" % number, b"leak 5")

    one_child.wait_until(lambda: len(one_child.names("done")) == 300, 120)

    assert one_child.names("failed") == set()


def test_a_process_that_can_not_be_restored_is_replaced(one_child: Stand) -> None:
    before = handle(one_child, b"first", b"probe")
    assert handle(one_child, b"second", b"be_nice") == before["pid"]

    after = handle(one_child, b"third", b"probe")

    assert after["pid"] != before["pid"]
    assert after["nice"] == before["nice"]


def test_a_time_limit_ends_what_the_handler_has_started(make_stand: MakeStand) -> None:
    stand = make_stand(defaults={"time_limit_seconds": 2, "retries": 0}).start()
    argument = f"{time.monotonic_ns()}"

    handle(stand, b"family", b"family " + argument.encode())

    assert stand.names("failed") >= {b"family"}
    assert processes(argument) == 0


def test_what_a_killed_process_has_started_ends(make_stand: MakeStand) -> None:
    stand = make_stand(defaults={"retries": 0}, work={"crashes_max": 1}).start()
    argument = f"{time.monotonic_ns()}"

    handle(stand, b"dies", b"die_with_family " + argument.encode())

    stand.wait_until(lambda: processes(argument) == 0)
    assert stand.names("failed") >= {b"dies"}


def test_a_handler_may_use_several_processes(make_stand: MakeStand) -> None:
    stand = make_stand().start()

    assert handle(stand, b"parallel", b"parallel") == [2, 4, 6, 8, 10]


def test_what_handlers_print_is_logged_as_theirs(make_stand: MakeStand) -> None:
    stand = make_stand().start()

    handle(stand, b"a.txt", b"print one")
    handle(stand, b"b.txt", b"print two")

    for name, word in (("a.txt", "one"), ("b.txt", "two")):
        lines = [line for line in stand.log_events("handler_output") if line["file"] == name]
        texts = [line["line"] for line in lines]
        assert {f"out {word}", f"err {word}", f"child {word}", "no line end"} <= set(texts)
        assert any("ghost" in text for text in texts)
        assert {line["inbox"] for line in lines} == {"drop"}
    assert {line["file"] for line in stand.log_events("file_done")} == {"a.txt", "b.txt"}


def test_a_flood_of_output_delays_no_file_and_is_cut(make_stand: MakeStand) -> None:
    stand = make_stand().start()

    handle(stand, b"a.txt", b"flood 20000")

    stand.wait_until(lambda: stand.names("done") == {b"a.txt"})
    lines = stand.log_events("handler_output")
    assert len(lines) == 100
    assert max(len(line["line"]) for line in lines) <= 1004


@pytest.mark.parametrize(
    "command", [b"close_output descriptors", b"close_output streams", b"close_output other", b"lower_limits", b"become_nobody"]
)
def test_what_can_not_be_undone_reaches_no_other_file(one_child: Stand, command: bytes) -> None:
    handle(one_child, b"first", command)

    for name in (b"1", b"2"):
        handle(one_child, name, b"print " + name, "other")

    assert one_child.names("done", "other") == {b"1", b"2"}
    assert one_child.names("failed", "other") == set()
    texts = {line["line"] for line in one_child.log_events("handler_output") if line["inbox"] == "other"}
    assert {"out 1", "err 1", "out 2", "err 2"} <= texts


@pytest.mark.parametrize("how", [b"signal", b"exit"])
def test_a_handler_that_ends_as_the_pool_ends_its_processes_is_not_called_for_ever(make_stand: MakeStand, how: bytes) -> None:
    stand = make_stand(defaults={"retries": 0}, work={"crashes_max": 1}).start()

    handle(stand, b"stops", b"stop_self " + how, seconds=120)

    assert stand.names("failed") >= {b"stops"}
    handle(stand, b"after", b"describe")
    assert b"after" in stand.names("done")
