import hashlib
from pathlib import Path

import pytest

from bench import at_scale
from bench.scale.large import BLOCK_BYTES, write
from bench.scale.parallel import busy_share, max_concurrency


def test_the_busy_share_of_workers_that_are_never_idle_is_1() -> None:
    spans = [(0.0, 1.0), (0.0, 1.0), (1.0, 2.0), (1.0, 2.0)]

    assert (busy_share(spans, 2), max_concurrency(spans)) == (1.0, 2)


def test_a_waiting_worker_lowers_the_busy_share() -> None:
    spans = [(0.0, 1.0), (0.5, 1.5), (1.5, 2.5), (2.5, 4.0)]

    assert (busy_share(spans, 2), max_concurrency(spans)) == (4.5 / 8, 2)


def test_a_large_file_has_the_requested_size_and_the_returned_hash(tmp_path: Path) -> None:
    size = BLOCK_BYTES + 20

    digest = write(tmp_path / "large", size)

    content = (tmp_path / "large").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
    assert content[BLOCK_BYTES:] != content[:20]


def test_one_scenario_takes_options_and_all_have_their_defaults() -> None:
    million, every = at_scale.parse(["million", "--files", "5000"]), at_scale.parse([])

    assert [(arguments.scenario, arguments.files) for arguments in million] == [("million", 5000)]
    assert [arguments.scenario for arguments in every] == ["idle", "parallel", "large", "inboxes", "tree", "million"]
    assert every[-1].files == 1_000_000


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(SystemExit):
        at_scale.parse(["nonsense"])
