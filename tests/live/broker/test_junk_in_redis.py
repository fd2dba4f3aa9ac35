"""Another program writes junk over every key of inboxd's while files are handled: no program ends, and all files are filed."""

import time
from collections.abc import Callable

import pytest
from redis.client import Pipeline
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

JUNK: dict[str, Callable[[Pipeline, bytes], object]] = {
    "text": lambda client, key: client.set(key, "junk"),
    "NaN": lambda client, key: client.set(key, "NaN"),
    "huge": lambda client, key: client.set(key, "9" * 400),
    "list": lambda client, key: client.rpush(key, "junk"),
    "hash": lambda client, key: client.hset(key, mapping={"state": "junk", "until": "NaN", "attempt": "-5", "a": "b"}),
    "sorted set": lambda client, key: client.zadd(key, {"junk": 1.0}),
}
ROUNDS = 4
FILES = 20


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_every_key_ends_no_program_and_loses_no_file(junk: str, make_stand: MakeStand) -> None:
    stand = make_stand({"drop": {"retries": 0}}, work={"concurrency": 2}).start()
    pids = [program.pid for program in (stand.watcher, stand.worker, stand.beat)]
    for number in range(ROUNDS):
        for file in range(FILES):
            stand.drop(b"%d-%d" % (number, file), b"sleep 0.1")
        stand.wait_until(lambda: stand.names("claimed"))
        for key in stand.client.scan_iter("*"):
            with stand.client.pipeline(transaction=True) as commands:  # no program writes between the two
                commands.delete(key)
                JUNK[junk](commands, key)
                commands.execute()
        time.sleep(0.5)

    stand.drop(b"last", b"describe")

    stand.wait_until(lambda: len(stand.names("done")) == ROUNDS * FILES + 1)
    assert [program.pid for program in (stand.watcher, stand.worker, stand.beat) if program.running] == pids
    assert stand.names("failed") == set()
