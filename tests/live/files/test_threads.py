"""A worker that runs handlers in threads instead of processes."""

from collections.abc import Iterator

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with Stand(tmp_path_factory.mktemp("threads"), {"drop": {"retries": 1, "parcel_files_max": 1}}) as new_stand:
        new_stand.worker.argv = (*new_stand.worker.argv, "-P", "threads")
        yield new_stand.start()


@pytest.mark.parametrize(("command", "reason"), [(b"exit", "SystemExit: 3"), (b"memory", "MemoryError")])
def test_system_exit_and_memory_error_in_a_handler_end_no_thread(stand: Stand, command: bytes, reason: str) -> None:
    worker_pid = stand.worker.pid
    bad = [b"%s %d.txt" % (command, number) for number in range(3)]  # more files than threads

    for name in bad:
        stand.drop(name, command)
    stand.wait_until(lambda: stand.names("failed") >= set(bad))
    stand.drop(command + b" after.txt", b"the next one")
    stand.wait_until(lambda: stand.path("done", command + b" after.txt").exists())

    assert all(reason in stand.note(name) for name in bad)
    assert [[call.attempt for call in stand.calls(name)] for name in bad] == [[1, 2]] * len(bad)
    assert stand.worker.pid == worker_pid
    stand.wait_until(stand.has_no_pending_files)
