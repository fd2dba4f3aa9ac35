"""Two installations on one Redis: each with its namespace, or the second one is refused."""

from collections.abc import Callable

import pytest
from support.live.stand import Stand, Table

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]

FILES = 30


def on_the_same_server(make_stand: MakeStand, first: Stand, inboxes: dict[str, Table], namespace: str = "") -> Stand:
    """Return a stand without a server of its own."""
    second = make_stand(inboxes, redis={"url": f"unix://{first.socket}", "namespace": namespace})
    second.redis = first.redis
    return second


def start_programs(stand: Stand) -> None:
    for program in (stand.watcher, stand.worker, stand.beat):
        program.start()


def test_each_namespace_has_its_own_files_and_every_key_and_channel_its_prefix(make_stand: MakeStand) -> None:
    first = make_stand({"drop": {}}, redis={"namespace": "one"}).start()
    second = on_the_same_server(make_stand, first, {"drop": {}}, "two")
    start_programs(second)
    seen: set[bytes] = set()

    def are_done() -> bool:
        seen.update(first.client.scan_iter("*"))
        return all(stand.has_no_pending_files() and len(stand.names("done")) == FILES for stand in (first, second))

    for stand in (first, second):
        stand.drop_folder(b"burst", {b"%d" % number: b"sleep 0.05" for number in range(FILES - 1)})
        stand.drop(b"by reference", b"x" * 100_000)
    first.wait_until(are_done)

    assert {key for key in seen if not key.startswith((b"one:", b"two:"))} == set()
    assert all(name.startswith((b"one:", b"two:")) for name in first.client.pubsub_channels())
    assert [len(stand.calls()) for stand in (first, second)] == [FILES, FILES]
    assert not any(stand.log_events("installation_conflict") for stand in (first, second))


@pytest.mark.parametrize("difference", ["root", "handler"])
def test_a_second_installation_with_other_settings_waits_and_names_the_host_and_root_of_the_first(
    make_stand: MakeStand, difference: str
) -> None:
    first = make_stand({"drop": {}}).start()
    handler = {"handler": "inboxd.handlers:describe"} if difference == "handler" else {}
    second = on_the_same_server(make_stand, first, {"drop": handler})
    first.wait_until(lambda: first.client.hlen("inboxd:installations"))

    second.drop(b"mine", b"content")
    second.watcher.start()
    second.worker.spawn()
    second.wait_until(lambda: second.log_events("broker_unavailable") and second.log_events("installation_conflict"))

    for text in (second.watcher.text(), second.worker.text()):
        assert str(first.settings_file) in text
        assert str(first.root()) in text
        assert "redis.namespace" in text
    first.drop(b"later", b"content")
    first.wait_until(lambda: first.path("done", b"later").exists())
    assert second.names("inbox") == {b"mine"}
    assert second.worker.running
    for program in (first.watcher, first.worker, first.beat):
        program.stop()
    first.client.delete("inboxd:installations")  # instead of 35 s, in which it is forgotten
    second.wait_until(lambda: second.path("done", b"mine").exists())


def test_a_worker_that_waits_stops_at_sigterm(make_stand: MakeStand) -> None:
    first = make_stand({"drop": {}}).start()
    second = on_the_same_server(make_stand, first, {"drop": {}})
    first.wait_until(lambda: first.client.hlen("inboxd:installations"))
    second.worker.spawn()
    second.wait_until(lambda: second.log_events("installation_conflict"))

    assert second.worker.stop(30) == 0


def test_a_helper_with_the_same_settings_is_no_second_installation(make_stand: MakeStand) -> None:
    first = make_stand({"drop": {}}).start()
    helper = on_the_same_server(make_stand, first, {"drop": {"root": str(first.root())}})

    helper.worker.start()

    first.drop(b"file", b"content")
    first.wait_until(lambda: first.path("done", b"file").exists())
    first.wait_until(lambda: first.client.hlen("inboxd:installations") == 2)
    assert helper.worker.running
