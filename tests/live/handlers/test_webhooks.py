"""A URL handles an inbox's files: done, rejected, retried, interrupted; a killed worker, a server away, a lost Redis."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from support.live.stand import Stand
from support.webhook_server import Answer, Request, WebhookServer

MakeStand = Callable[..., Stand]
NAME = "inboxd-file-name"


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    """Run a server that does what the first word of a file says."""
    with WebhookServer().running() as server:
        server.answer = lambda request: answer(server, request)
        yield server


def answer(server: WebhookServer, request: Request) -> Answer:
    word, _, rest = request.body.partition(b" ")
    calls = counts(server)[request.headers[NAME]]
    answers = {
        b"reject": Answer(422, rest),
        b"always_raise": Answer(500, rest),
        b"raise_twice": Answer(200) if calls > 2 else Answer(503, rest, {"Retry-After": "0"}),
        b"wait": Answer(200) if calls > 1 else Answer(429, rest, {"Retry-After": "4"}),
        b"hold": Answer(200, waits=600 if calls == 1 else 0),
        b"end": Answer(200, closes=calls == 1),
    }
    return answers.get(word, Answer(200))


def counts(server: WebhookServer) -> Counter[str]:
    """Return the number of requests by the file's name."""
    return Counter(request.headers[NAME] for request in server.requests)


def filed(stand: Stand, folder: str, name: bytes) -> bool:
    return stand.path(folder, name).exists()


def test_files_are_filed_by_what_the_server_answers(make_stand: MakeStand, server: WebhookServer) -> None:
    stand = make_stand({"drop": {"url": server.url, "retries": 3}}).start()
    contents = {
        b"a.txt": b"fine", b"x/b \xc3\xbc.txt": b"fine", b"bad.txt": b"reject the total is missing",
        b"again.txt": b"raise_twice", b"never.txt": b"always_raise no room", b"end.txt": b"end",
        b"large.bin": b"\x00" * 3_000_000,
    }  # fmt: skip
    for name, content in contents.items():
        stand.drop(name, content)

    stand.wait_until(lambda: len(stand.names("done")) == 5 and len(stand.names("failed")) == 4)

    assert set(stand.tree("done")) == {b"a.txt", b"x/b \xc3\xbc.txt", b"again.txt", b"end.txt", b"large.bin"}
    assert "the total is missing" in stand.note(b"bad.txt")
    assert f"{server.url} answered 500 Internal Server Error: no room" in stand.note(b"never.txt")
    assert {name: count for name, count in counts(server).items() if count > 1} == {
        "again.txt": 3,
        "never.txt": 4,
        "end.txt": 2,
    }
    by_name = {request.headers[NAME]: request for request in server.requests}
    assert by_name["large.bin"].body == contents[b"large.bin"]
    ids = {(request.headers[NAME], request.headers["idempotency-key"]) for request in server.requests}
    assert len(ids) == len(contents)


def test_retry_after_is_heeded(make_stand: MakeStand, server: WebhookServer) -> None:
    stand = make_stand({"drop": {"url": server.url}}).start()

    stand.drop(b"a.txt", b"wait")
    stand.wait_until(lambda: len(server.requests) == 1)
    first = time.monotonic()
    stand.wait_until(lambda: filed(stand, "done", b"a.txt"))

    assert time.monotonic() - first >= 3.5


def test_the_time_limit_ends_the_wait_for_an_answer(make_stand: MakeStand, server: WebhookServer) -> None:
    stand = make_stand({"drop": {"url": server.url, "time_limit_seconds": 1, "retries": 1}}).start()

    stand.drop(b"held.txt", b"hold")
    stand.wait_until(lambda: filed(stand, "done", b"held.txt"))

    assert counts(server) == {"held.txt": 2}


def test_after_a_worker_was_killed_the_file_is_sent_again(make_stand: MakeStand, server: WebhookServer) -> None:
    stand = make_stand({"drop": {"url": server.url}}).start()
    stand.drop(b"held.txt", b"hold")
    stand.wait_until(lambda: server.requests)

    stand.worker.kill9()
    stand.worker.start()
    stand.wait_until(lambda: filed(stand, "done", b"held.txt"))

    first, second = server.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_while_the_server_is_away_files_wait_and_are_filed_when_it_is_back(make_stand: MakeStand) -> None:
    server = WebhookServer()
    rules = {"url": server.url, "retries": 20, "retry_backoff_seconds": 0.2, "retry_backoff_max_seconds": 0.5}
    server.close()
    stand = make_stand({"drop": rules}).start()
    for number in range(5):
        stand.drop(b"%d.txt" % number, b"fine")
    stand.wait_until(lambda: stand.log_events("file_retried"))

    with WebhookServer(port=server.port).running() as back:
        stand.wait_until(lambda: len(stand.names("done")) == 5)

    assert counts(back) == {f"{number}.txt": 1 for number in range(5)}


def test_after_flushall_in_the_middle_each_file_is_filed_once(make_stand: MakeStand, server: WebhookServer) -> None:
    stand = make_stand({"drop": {"url": server.url, "time_limit_seconds": 5}}).start()
    for number in range(20):
        stand.drop(b"%d.txt" % number, b"hold" if number == 0 else b"fine")
    stand.wait_until(lambda: counts(server)["0.txt"])

    stand.client.flushall()
    stand.wait_until(lambda: len(stand.names("done")) == 20)

    assert stand.has_no_pending_files()
