"""Settings that reach processes which were forked before a reload."""

import dataclasses
import itertools
import os
import signal
from collections.abc import Callable

import pytest
from support.disk.spools import Spool
from support.parts.fake_context import make_worker_context
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.config.settings import Settings
from inboxd.errors import SettingsError
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.shared_settings import CurrentContext, SharedBuffer


@pytest.fixture
def first(tmp_path_factory: pytest.TempPathFactory) -> WorkerContext:
    return make_worker_context(Spool.make(tmp_path_factory.mktemp("spool") / "drop").inbox(), FakeLeases(), FakePublisher())


def with_retries(context: WorkerContext, retries: int) -> Settings:
    inbox = context.settings.inbox["drop"].model_copy(update={"retries": retries})
    return context.settings.model_copy(update={"inbox": {"drop": inbox}})


def fork_and_describe(describe: Callable[[], str], update: Callable[[], None]) -> str:
    """Fork, then call ``update`` in the parent, then return what ``describe`` returns in the child."""
    start, result = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        os.read(start[0], 1)
        os.write(result[1], describe().encode())
        os._exit(0)
    update()
    os.write(start[1], b".")
    description = os.read(result[0], 1000).decode()
    os.waitpid(child, 0)
    for end in (*start, *result):
        os.close(end)
    return description


def test_the_context_is_the_first_one_until_an_update(first: WorkerContext) -> None:
    assert CurrentContext(first).get() is first


def test_a_child_forked_before_an_update_gets_the_new_settings(first: WorkerContext) -> None:
    current = CurrentContext(first)

    def describe() -> str:
        context = current.get()
        return f"{context.settings.inbox['drop'].retries} {sorted(context.retiring)} {context.leases is first.leases}"

    description = fork_and_describe(describe, lambda: current.update(with_retries(first, 77), ["b", "a"]))

    assert description == "77 ['a', 'b'] True"


def test_an_update_does_not_change_the_context_of_a_running_task(first: WorkerContext) -> None:
    current = CurrentContext(first)
    before_update = current.get()

    current.update(with_retries(first, 77), [])

    assert before_update.settings.inbox["drop"].retries == first.settings.inbox["drop"].retries
    assert current.get() is current.get()
    assert dataclasses.replace(current.get(), settings=first.settings) == first


def test_settings_larger_than_the_buffer_are_refused_and_change_nothing(first: WorkerContext) -> None:
    current = CurrentContext(first, SharedBuffer(100))

    with pytest.raises(SettingsError, match="restart"):
        current.update(with_retries(first, 77), [])

    assert current.get() is first


def test_a_buffer_holds_the_latest_text_longer_or_shorter() -> None:
    shared = SharedBuffer()
    texts = [b"a" * size for size in (10, 100_000, 0, 3)]

    read = []
    for text in texts:
        shared.write(text)
        read.append(shared.read())

    assert read == [(number, text) for number, text in enumerate(texts, 1)]


def test_a_reader_never_gets_a_partial_text() -> None:
    shared = SharedBuffer()
    shared.write(b"0")
    if (writer := os.fork()) == 0:
        for number in itertools.count(1):
            shared.write(b"%d" % (number % 10) * 1_000_000)

    read = [shared.read()]
    while read[-1][0] < 300:
        read.append(shared.read())
        read[-2:-1] = [] if read[-2] == read[-1] else read[-2:-1]  # keep each text once
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)

    assert [text[:1] for _, text in read if text.count(text[:1]) != len(text)] == []
