"""What handlers make goes to out/ exactly once and with its file, through failed attempts, killed workers and a lost Redis."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live import stand as stand_module
from support.live.stand import Stand

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
