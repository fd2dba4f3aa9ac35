"""What handlers make goes to out/ exactly once and with its file, through failed attempts, killed workers and a lost Redis."""

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live import stand as stand_module
from support.live.stand import Stand

from inboxd.messaging.queues import host_queue

MakeStand = Callable[..., Stand]
SCRIPT = Path(stand_module.__file__).with_name("stand_command.sh")


def outputs(stand: Stand) -> dict[str, str]:
    top = stand.root() / "out"
    return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}


def expected(stand: Stand, name: str) -> dict[str, str]:
    """Return the outputs of a file in done/."""
    (file_id,) = {call.id for call in stand.calls() if call.path == name.encode()}
    folder, _, last = name.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    return {f"{prefix}{last}.txt": file_id, f"{prefix}pages/{last}.1": file_id}


def test_outputs_follow_their_file_and_those_of_failed_attempts_are_removed(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"retries": 3}}).start()
    contents = {
        "a": "make -", "x/y/b": "make -", "again": "make raise_twice", "never": "make always_raise no",
        "rejected": "make reject no", "dies": "make die",
    }  # fmt: skip
    for name, content in contents.items():
        stand.drop(name.encode(), content.encode())

    stand.wait_until(lambda: len(stand.names("done")) == 3 and len(stand.names("failed")) == 6)
    stand.wait_until(lambda: not stand.names("claimed"))

    assert outputs(stand) == expected(stand, "a") | expected(stand, "x/y/b") | expected(stand, "again")
    delivered = stand.log_events("output_delivered")
    assert {(line["file"], line["filed"]) for line in delivered} >= {("a", "a.txt"), ("x/y/b", "x/y/pages/b.1")}
    assert len(delivered) == 6
    assert not stand.log_events("output_filed")


def test_a_command_makes_outputs(make_stand: MakeStand) -> None:
    rules = {
        "command": [
            "sh",
            "-c",
            'cp "$1" "$2/$3.copy"; grep -q bad "$1" && exit 65; true',
            "sh",
            "{path}",
            "{outputs}",
            "{stem}",
        ]
    }
    stand = make_stand({"drop": rules}).start()

    stand.drop(b"a.txt", b"fine")
    stand.drop(b"b.txt", b"bad")
    stand.wait_until(lambda: len(stand.names("done")) == 1 and len(stand.names("failed")) == 2)
    stand.wait_until(lambda: not stand.names("claimed"))

    assert outputs(stand) == {"a.copy": "fine"}


def test_many_files_in_one_parcel_have_their_own_outputs(make_stand: MakeStand) -> None:
    stand = make_stand().start()
    files = {b"%03d" % number: b"make -" if number % 3 else b"always_raise no" for number in range(60)}
    stand.drop_folder(b"batch", files)

    stand.wait_until(lambda: len(stand.names("done")) == 40 and len(stand.names("failed")) == 40)
    stand.wait_until(lambda: not stand.names("claimed"))

    wanted: dict[str, str] = {}
    for name, content in files.items():
        if content == b"make -":
            wanted |= expected(stand, f"batch/{name.decode()}")
    assert outputs(stand) == wanted


@pytest.mark.parametrize("seed", [1, 2])
def test_through_kills_and_flushes_each_output_is_delivered_once(make_stand: MakeStand, seed: int) -> None:
    stand = make_stand({"drop": {"retries": 10}}, work={"crashes_max": 20}).start()
    chance = random.Random(seed)
    names = [f"{number:03d}" for number in range(120)]
    for number, name in enumerate(names):
        stand.drop(name.encode(), b"make sleep 0.05" if number % 2 else b"make -")
        if number % 20 == 10:
            time.sleep(chance.random() / 4)
            match chance.choice(["kill", "flush", "kill and flush"]):
                case "flush":
                    stand.client.flushall()
                case fault:
                    stand.worker.kill9()
                    if fault != "kill":
                        stand.client.flushall()
                    stand.worker.start()

    stand.wait_until(lambda: len(stand.names("done")) == len(names))
    stand.wait_until(lambda: not stand.names("claimed"))

    wanted: dict[str, str] = {}
    for name in names:
        wanted |= expected(stand, name)
    assert outputs(stand) == wanted


def test_a_handler_that_damages_its_run_stops_neither_its_inbox_nor_others(make_stand: MakeStand) -> None:
    script = 'echo x > "$2/o"; printf "a//b" > "$2/../of"; chmod 0 "$2/../of"'
    stand = make_stand({"drop": {"command": ["sh", "-c", script, "sh", "{path}", "{outputs}"]}, "other": {}}).start()
    stand.drop(b"a", b"x")
    stand.wait_until(lambda: len(stand.names("done")) == 1)
    stand.drop(b"held", b"hold", "other")
    stand.wait_until(lambda: stand.calls(b"held"))

    stand.worker.kill9()
    stand.client.flushall()
    stand.worker.start()
    (stand.folder / "release").touch()

    stand.wait_until(lambda: stand.names("done", "other") == {b"held"})
    stand.drop(b"b", b"x")
    stand.wait_until(lambda: len(stand.names("done")) == 2)


COPY = ["sh", "-c", 'cp "$1" "$2/copy.txt"', "sh", "{path}", "{outputs}"]


def test_outputs_go_to_another_folder_under_the_names_of_a_template(make_stand: MakeStand, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    out.mkdir()
    stand = make_stand({"drop": {"command": COPY, "out": str(out), "outputs": "{inbox}/{stem}{output_suffix}"}}).start()

    stand.drop(b"x/a.pdf", b"first")
    stand.wait_until(lambda: stand.names("done") == {b"x/a.pdf"} and not stand.names("claimed"))
    stand.drop(b"x/a.pdf", b"second")
    stand.wait_until(lambda: len(stand.names("done")) == 2 and not stand.names("claimed"))

    assert {str(path.relative_to(out)): path.read_text() for path in out.rglob("*.txt")} == {
        "drop/a.txt": "first",
        "drop/a (2).txt": "second",
    }
    assert not outputs(stand)


def test_an_output_replaces_the_older_one_or_fails_its_file(make_stand: MakeStand) -> None:
    rules = {"command": COPY, "outputs": "{stem}.txt"}
    stand = make_stand({"drop": {**rules, "on_conflict": "replace"}, "strict": {**rules, "on_conflict": "fail"}}).start()

    for content in (b"first", b"second"):
        for inbox in ("drop", "strict"):
            stand.drop(b"a.pdf", content, inbox)
            stand.wait_until(lambda inbox=inbox: stand.has_no_pending_files(inbox) and not stand.names("claimed", inbox))

    assert outputs(stand) == {"a.txt": "second"}
    assert (stand.root("strict") / "out" / "a.txt").read_text() == "first"
    assert stand.names("failed", "strict") == {b"a.pdf", b"a.pdf.error.txt"}
    note = stand.note(b"a.pdf", "strict")
    assert "A result of the same name exists already" in note
    assert "Kind: name_taken" in note
    assert "the output a.txt exists already" in note


def test_a_pipeline_of_inboxes_loses_nothing_through_kills_and_flushes(make_stand: MakeStand) -> None:
    stand = make_stand(
        {
            "first": {"command": COPY, "out": "inbox:second", "outputs": "{folder}/{name}"},
            "second": {"command": COPY, "out": "inbox:third", "outputs": "{folder}/{name}"},
            "third": {},
        }
    ).start()
    contents = {b"%03d" % number: b"content %d" % number for number in range(60)}

    dropped = stand.drop_folder(b"batch", contents, "first")
    for count in (10, 40):
        stand.wait_until(lambda count=count: len(stand.names("done", "first")) >= count)
        stand.worker.kill9()
        stand.client.flushall()
        stand.worker.start()
    stand.wait_until(lambda: stand.tree("done", "third") == dropped)

    for inbox in ("first", "second"):
        stand.wait_until(lambda inbox=inbox: not stand.names("claimed", inbox))
        assert stand.tree("done", inbox) == dropped
        assert not (stand.root(inbox) / "out").exists()
    assert stand.tree("failed", "first") == stand.tree("failed", "second") == stand.tree("failed", "third") == {}


def test_outputs_of_a_worker_on_another_host_come_back(make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"retries": 0}})
    stand.worker.argv = (*stand.worker.argv, "-Q", host_queue("stand"))  # the local worker only files
    stand.start()
    argv = (sys.executable, "-m", "celery", "-A", "inboxd", "worker", "-c", "1", "-n", "remote@%h", "-Q", "inboxd.work")
    remote = stand.program("remote", argv, environment=stand.environment(INBOXD_HOST="elsewhere"))
    remote.start()

    files = {b"%03d" % number: b"make -" for number in range(30)} | {b"large": b"make_large 300000"}
    stand.drop_folder(b"x", files)
    stand.wait_until(lambda: len(stand.names("done")) == 30 and len(stand.names("failed")) == 2)
    stand.wait_until(lambda: not stand.names("claimed"))

    wanted: dict[str, str] = {}
    for name in files.keys() - {b"large"}:
        wanted |= expected(stand, f"x/{name.decode()}")
    assert outputs(stand) == wanted
    assert "1 outputs of 300000 bytes" in stand.note(b"x/large")
