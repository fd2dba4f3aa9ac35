"""Chains in a running worker: a later attempt begins at the step that failed, through killed workers and a lost Redis."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live.stand import HANDLERS, Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]


def note_down(step: str, log: Path, then: str = "true") -> dict[str, object]:
    """Return a command that writes the step and the file's name into a log, makes an output, and does what ``then`` says."""
    script = f'echo "{step} $1" >>{log}; cp "$2" "$3/$1.{step}"; {then}'
    return {"command": ["sh", "-c", script, "sh", "{name}", "{path}", "{outputs}"], "reject_codes": [1]}


def steps_of(log: Path) -> Counter[str]:
    return Counter(log.read_text().splitlines())


def test_steps_that_were_done_are_not_repeated(make_stand: MakeStand, tmp_path: Path) -> None:
    log, flag = tmp_path / "log", tmp_path / "flag"
    steps = [
        note_down("one", log),
        note_down("two", log, f"[ -e {flag} ] || {{ touch {flag}; exit 75; }}"),
        note_down("three", log),
    ]
    stand = make_stand({"drop": {"handler": steps}}).start()

    stand.drop(b"a.txt", b"content")
    stand.wait_until(lambda: stand.names("done") == {b"a.txt"} and not stand.names("claimed"))

    assert steps_of(log) == {"one a.txt": 1, "two a.txt": 2, "three a.txt": 1}
    assert sorted(path.name for path in (stand.root() / "out").iterdir()) == ["a.txt.one", "a.txt.three", "a.txt.two"]
    (retried,) = stand.log_events("file_retried", stand.worker)
    assert retried["why"].startswith("step 2 of 3, command sh: ")


def test_a_step_that_rejects_ends_the_chain(make_stand: MakeStand, tmp_path: Path) -> None:
    log = tmp_path / "log"
    scan = note_down("scan", log, '! grep -q virus "$2" || { echo infected >&2; exit 1; }')
    stand = make_stand({"drop": {"handler": [scan, f"{HANDLERS}:execute_command"]}}).start()

    stand.drop(b"bad.txt", b"virus")
    stand.drop(b"good.txt", b"made of text")
    stand.wait_until(lambda: stand.names("done") == {b"good.txt"} and len(stand.names("failed")) == 2)
    stand.wait_until(lambda: not stand.names("claimed"))

    assert "Reason: infected" in stand.note(b"bad.txt")
    assert {call.path for call in stand.calls()} == {b"good.txt"}
    assert [path.name for path in (stand.root() / "out").iterdir()] == ["good.txt.scan"]


def test_through_kills_and_flushes_no_step_that_was_done_is_repeated(make_stand: MakeStand, tmp_path: Path) -> None:
    log = tmp_path / "log"
    steps = [note_down("one", log), note_down("two", log, "sleep 0.15")]
    stand = make_stand({"drop": {"handler": steps, "retries": 10}}, work={"crashes_max": 20}).start()
    names = [f"{number:02d}" for number in range(30)]
    for number, name in enumerate(names):
        stand.drop(name.encode(), name.encode())
        if number % 10 == 9:
            time.sleep(0.4)
            stand.worker.kill9()
            if number > 15:
                stand.client.flushall()
            stand.worker.start()

    stand.wait_until(lambda: len(stand.names("done")) == len(names) and not stand.names("claimed"))

    counts = steps_of(log)
    # killed between the end of a step and its checkpoint, it is repeated
    assert sum(counts[f"one {name}"] for name in names) <= len(names) + 6
    assert {path.name for path in (stand.root() / "out").iterdir()} == {
        f"{name}.{step}" for name in names for step in ("one", "two")
    }
    assert stand.names("failed") == set()
