"""Settings that reach processes which were forked before they were known."""

import dataclasses
import itertools
import os
import signal
from collections.abc import Callable

import pytest
from support.disk.spools import Spool
from support.parts.fake_context import make_worker_context
from support.parts.fakes import FakeLeases, Sent

from inboxd.config.settings import Settings
from inboxd.errors import SettingsError
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.shared_settings import CurrentContext, SharedBuffer


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> WorkerContext:
    return make_worker_context(Spool.make(tmp_path_factory.mktemp("spool") / "drop").inbox(), FakeLeases(), Sent())


def with_retries(context: WorkerContext, retries: int) -> Settings:
    inbox = context.settings.inbox["drop"].model_copy(update={"retries": retries})
    return context.settings.model_copy(update={"inbox": {"drop": inbox}})


def in_a_child(tell: Callable[[], str], ask: Callable[[], None]) -> str:
    """Fork, then do ``ask`` here, then return what ``tell`` says there."""
    go, gone = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        os.read(go[0], 1)
        os.write(gone[1], tell().encode())
        os._exit(0)
    ask()
    os.write(go[1], b".")
    said = os.read(gone[0], 1000).decode()
    os.waitpid(child, 0)
    for end in (*go, *gone):
        os.close(end)
    return said


def test_until_something_changes_the_workshop_is_the_first(made: WorkerContext) -> None:
    assert CurrentContext(made).get() is made


def test_a_child_that_was_forked_before_gets_the_new_settings(made: WorkerContext) -> None:
    current = CurrentContext(made)

    def tell() -> str:
        now = current.get()
        return f"{now.settings.inbox['drop'].retries} {sorted(now.retiring)} {now.leases is made.leases}"

    said = in_a_child(tell, lambda: current.update(with_retries(made, 77), ["b", "a"]))

    assert said == "77 ['a', 'b'] True"


def test_a_workshop_that_a_task_has_begun_with_stays_as_it_is(made: WorkerContext) -> None:
    current = CurrentContext(made)
    begun_with = current.get()

    current.update(with_retries(made, 77), [])

    assert begun_with.settings.inbox["drop"].retries == made.settings.inbox["drop"].retries
    assert current.get() is current.get()
    assert dataclasses.replace(current.get(), settings=made.settings) == made


def test_settings_that_no_slate_holds_are_refused_and_the_old_ones_stay(made: WorkerContext) -> None:
    current = CurrentContext(made, SharedBuffer(100))

    with pytest.raises(SettingsError, match="restart"):
        current.update(with_retries(made, 77), [])

    assert current.get() is made


def test_a_slate_holds_the_last_text_be_it_longer_or_shorter() -> None:
    shared = SharedBuffer()
    texts = [b"a" * size for size in (10, 100_000, 0, 3)]

    read = []
    for text in texts:
        shared.write(text)
        read.append(shared.read())

    assert read == [(number, text) for number, text in enumerate(texts, 1)]


def test_a_reader_never_sees_half_of_a_text() -> None:
    shared = SharedBuffer()
    shared.write(b"0")
    if (writer := os.fork()) == 0:
        for number in itertools.count(1):
            shared.write(b"%d" % (number % 10) * 1_000_000)

    read = [shared.read()]
    while read[-1][0] < 300:
        read.append(shared.read())
        read[-2:-1] = [] if read[-2] == read[-1] else read[-2:-1]  # the same again tells nothing
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)

    assert [text[:1] for _, text in read if text.count(text[:1]) != len(text)] == []
