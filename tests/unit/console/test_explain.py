"""`inboxd explain`: the reason for every folder and state, by the watcher's rules, and without any change."""

import dataclasses
import json
import os
import secrets
import subprocess
import time
from pathlib import Path, PurePath

import pytest
import redis
from celery.states import FAILURE, RETRY, SUCCESS
from click.testing import CliRunner
from support.disk.failed_files import drop_and_fail
from support.disk.spools import Spool
from support.valkey import settings_for

from inboxd.broker import heartbeat
from inboxd.broker.heartbeat import Heartbeat, InboxReport, write_heartbeat
from inboxd.broker.inbox_outages import record_inbox_outage
from inboxd.broker.leases import Leases
from inboxd.config.settings import Settings
from inboxd.console.explain.explain import Explanation, explain
from inboxd.console.main import cli
from inboxd.console.paths import quote_for_shell
from inboxd.errors import FolderUnavailable
from inboxd.fs.syscalls import Disk, ignore_lease_breaks
from inboxd.intake.packing import build_parcel, pack
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.publishing import Publisher
from inboxd.messaging.queues import WORK_QUEUE
from inboxd.spool.filing import move_to_done

HOSTILE = b'x\n{"event":"file_done"}\x1b[2J\xff.pdf'
HEALTHY = InboxReport("inotify", "", is_busy=False, outage=None)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    ignore_lease_breaks()
    return Spool.make(tmp_path / "drop")


@pytest.fixture
def settings(spool: Spool, valkey_url: str, valkey: redis.Redis) -> Settings:
    """Return settings with that spool; the watcher's heartbeat is fresh."""
    write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": HEALTHY}))
    return settings_for(valkey_url, spool.root)


@pytest.fixture
def leases(valkey: redis.Redis) -> Leases:
    return Leases(valkey, keep_seconds=60.0)


def with_rules(settings: Settings, **rules: object) -> Settings:
    """Return the settings with no wait times, and other rules, for the inbox."""
    inbox = settings.inbox["drop"].model_copy(update={"settle_seconds": 0.0, "unsure_seconds": 0.0, **rules})
    return settings.model_copy(update={"inbox": {"drop": inbox}})


def explain_one(settings: Settings, spool: Spool, path: bytes) -> Explanation:
    (found,) = explain(settings, os.fsdecode(bytes(spool.root) + b"/" + path))
    return found


def snapshot(root: Path) -> dict[Path, tuple[int, ...]]:
    stats = {path: path.lstat() for path in (root, *root.rglob("*"))}
    return {path: (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_atime_ns, stat.st_size) for path, stat in stats.items()}


def test_a_missing_inbox_hides_no_other_inboxs_file(settings: Settings, spool: Spool) -> None:
    spool.put(b"failed/d.pdf")
    missing = settings.inbox["drop"].model_copy(update={"name": "gone", "root": PurePath("/nowhere")})
    both = settings.model_copy(update={"inbox": {"gone": missing, **settings.inbox}})

    assert [(found.inbox, found.folder) for found in explain(both, "d.pdf")] == [("drop", "failed")]
    with pytest.raises(FolderUnavailable, match="nowhere"):
        explain(both, "unknown.pdf")


def test_a_new_file_settles_until_the_given_time(settings: Settings, spool: Spool) -> None:
    file = spool.put(b"inbox/x/a.pdf")

    found = explain_one(with_rules(settings, settle_seconds=60.0), spool, b"inbox/x/a.pdf")

    assert (found.state, found.path) == ("waiting", b"x/a.pdf")
    assert "settling" in found.sentences[0]
    assert found.until == pytest.approx(file.stat().st_ctime + 60.0)


def test_a_file_that_is_open_for_writing_waits(settings: Settings, spool: Spool) -> None:
    with spool.put(b"inbox/a.pdf").open("ab"):
        found = explain_one(with_rules(settings), spool, b"inbox/a.pdf")

    assert found.state == "waiting"
    assert "open for writing" in found.sentences[0]


def test_an_empty_file_waits(settings: Settings, spool: Spool) -> None:
    spool.put(b"inbox/a.pdf", b"")

    found = explain_one(with_rules(settings), spool, b"inbox/a.pdf")

    assert found.state == "waiting"
    assert "empty so far" in found.sentences[0]


@pytest.mark.parametrize(
    ("path", "rules", "reason"),
    [
        (b"a.part", {}, "a temporary name"),
        (b"a.pdf", {"include": ("*.txt",)}, "no pattern of include = ['*.txt'] matches"),
        (b"x/a.pdf", {"exclude": ("x/*",)}, "exclude = 'x/*' matches"),
        (b".git/x/a.pdf", {}, ".git/ is not scanned: a folder that programs store for themselves"),
        (b"x/a.pdf", {"recursive": False}, "x/ is not scanned: a sub-folder, and recursive = false"),
    ],
)
def test_an_ignored_file_is_explained_by_its_rule(
    path: bytes, rules: dict[str, object], reason: str, settings: Settings, spool: Spool
) -> None:
    spool.put(b"inbox/" + path)

    found = explain_one(with_rules(settings, **rules), spool, b"inbox/" + path)

    assert (found.state, found.sentences) == ("ignored", [found.sentences[0]])
    assert reason in found.sentences[0]


def test_a_folder_nested_too_deep_and_a_link_are_refused(settings: Settings, spool: Spool) -> None:
    spool.put(b"inbox/x/y/a.pdf")
    spool.where(b"inbox/link").symlink_to("/etc/passwd")

    deep, link = (explain_one(with_rules(settings, depth_max=1), spool, path) for path in (b"inbox/x/y/a.pdf", b"inbox/link"))

    assert deep.state == link.state == "refused"
    assert "nested more than 1 deep" in deep.sentences[0]
    assert "symbolic link" in link.sentences[0]


def test_a_complete_file_is_ready(settings: Settings, spool: Spool) -> None:
    spool.put(b"inbox/a.pdf")

    found = explain_one(with_rules(settings), spool, b"inbox/a.pdf")

    assert found.state == "ready"
    assert "next scan" in found.sentences[1]


class TestHeldBack:
    @pytest.fixture
    def ready(self, settings: Settings, spool: Spool) -> Settings:
        spool.put(b"inbox/a.pdf")
        return with_rules(settings)

    def reason(self, settings: Settings, spool: Spool) -> str:
        found = explain_one(settings, spool, b"inbox/a.pdf")
        assert found.state == "held back"
        return found.sentences[1]

    def test_by_an_unavailable_broker(self, ready: Settings, spool: Spool) -> None:
        unreachable = ready.redis.model_copy(update={"url": "unix:///nowhere.sock"})

        assert "the broker is unavailable" in self.reason(ready.model_copy(update={"redis": unreachable}), spool)

    def test_by_an_outage(self, ready: Settings, spool: Spool, valkey: redis.Redis) -> None:
        record_inbox_outage(valkey, "here", "drop", "/srv: No space left on device")

        assert "No space left on device" in self.reason(ready, spool)

    def test_by_a_missing_watcher(self, ready: Settings, spool: Spool, valkey: redis.Redis) -> None:
        valkey.delete(heartbeat.KEY + "here")

        assert "no watcher heartbeat" in self.reason(ready, spool)

    def test_by_an_outage_that_the_watcher_reports(self, ready: Settings, spool: Spool, valkey: redis.Redis) -> None:
        report = dataclasses.replace(HEALTHY, outage="/srv/drop/done: Stale file handle")
        write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": report}))

        assert "Stale file handle" in self.reason(ready, spool)

    def test_by_the_files_in_flight(self, ready: Settings, spool: Spool) -> None:
        spool.claimed(b"b", b"c")

        assert "in_flight_files_max" in self.reason(with_rules(ready, in_flight_files_max=2), spool)

    def test_by_files_that_are_claimed_first(self, ready: Settings, spool: Spool, valkey: redis.Redis) -> None:
        write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": dataclasses.replace(HEALTHY, is_busy=True)}))

        assert "the watcher claims other files first" in self.reason(ready, spool)


class TestClaimed:
    @pytest.fixture
    def parcel(self, spool: Spool) -> str:
        return spool.claimed(b"x/a.pdf", b"x/b.pdf")

    def explain_claimed(self, settings: Settings, spool: Spool) -> Explanation:
        found = explain_one(settings, spool, b"inbox/x/a.pdf")  # the path under which it was dropped
        assert found.folder == "claimed"
        return found

    def test_a_parcel_without_a_lease(self, settings: Settings, spool: Spool, parcel: str) -> None:
        found = self.explain_claimed(settings, spool)

        assert (found.state, found.facts["parcel"], found.facts["files"]) == ("claimed", parcel, 2)
        assert f"in parcel {parcel}" in found.sentences[0]
        assert "files in the parcel: 2" in found.sentences[0]
        assert "a sweep repairs parcels" in found.sentences[2]

    def test_a_parcel_in_a_queue(self, settings: Settings, spool: Spool, parcel: str, leases: Leases) -> None:
        inbox = settings.inbox["drop"]
        leases.queue(parcel, "drop", 30.0)
        with make_app(settings) as app, spool.folders() as folders:
            packed = pack(Disk(), folders, inbox, parcel, [b"x/a.pdf", b"x/b.pdf"])
            Publisher(app, leases).publish(build_parcel(packed, parcel, inbox, "here"), inbox)

        found = self.explain_claimed(settings, spool)

        assert (found.state, found.facts["queue"]) == ("queued", WORK_QUEUE)
        assert "waits in the queue inboxd.work" in found.sentences[1]

    def test_a_running_parcel(self, settings: Settings, spool: Spool, parcel: str, leases: Leases) -> None:
        leases.queue(parcel, "drop", 30.0)
        leases.start(parcel, "farm/0f0f-4026/4711/99/1", 30.0)

        found = self.explain_claimed(settings, spool)

        assert (found.state, found.facts["attempt"]) == ("running", 1)
        assert "process 4711 on farm works on the parcel, attempt 1" in found.sentences[1]

    def test_a_parcel_on_which_workers_died(self, settings: Settings, spool: Spool, parcel: str, leases: Leases) -> None:
        leases.queue(parcel, "drop", 30.0)
        leases.start(parcel, "t", 30.0)
        leases.requeue_if_unchanged(parcel, leases.read([parcel])[parcel], 30.0, crashed=True)

        found = self.explain_claimed(settings, spool)

        assert found.facts["crashes"] == 1
        assert "workers that died on this parcel: 1; at 3 the file is moved to failed/" in found.sentences

    @pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's
    def test_a_finished_parcel(self, settings: Settings, spool: Spool, parcel: str, leases: Leases) -> None:
        leases.queue(parcel, "drop", 30.0)
        leases.start(parcel, "t", 30.0)
        leases.finish(parcel, "t", 30.0)
        with make_app(settings, results=True) as app:
            app.backend.store_result(parcel, {}, SUCCESS)

        found = self.explain_claimed(settings, spool)

        assert (found.state, found.facts["outcome"]) == ("finished", "success")
        assert "the outcome is stored" in found.sentences[-1]

    @pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's
    @pytest.mark.parametrize(
        ("status", "error", "sentence"),
        [
            (FAILURE, ValueError("no such\x1b account"), r"a failure is stored: no such\x1b account"),
            (FAILURE, KeyError("number", 7), "a failure is stored: ('number', 7)"),
            (RETRY, OSError("refused"), "the last attempt raised: refused"),
        ],
    )
    def test_a_stored_exception(
        self, settings: Settings, spool: Spool, parcel: str, status: str, error: Exception, sentence: str
    ) -> None:
        with make_app(settings, results=True) as app:
            app.backend.store_result(parcel, error, status)

        found = self.explain_claimed(settings, spool)

        assert found.facts["outcome"] == status.lower()
        assert sentence in found.sentences

    @pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x01", b"\x81\xa6status\x01", b"{}"])
    def test_a_result_that_cannot_be_read_counts_as_none_and_stays(
        self, settings: Settings, spool: Spool, parcel: str, valkey: redis.Redis, junk: bytes
    ) -> None:
        valkey.set(f"celery-task-meta-{parcel}", junk)

        assert self.explain_claimed(settings, spool).facts["outcome"] == "pending"

        assert valkey.get(f"celery-task-meta-{parcel}") == junk

    def test_a_parcel_while_redis_is_unavailable(self, settings: Settings, spool: Spool, parcel: str) -> None:
        unreachable = settings.redis.model_copy(update={"url": "unix:///nowhere.sock"})

        found = self.explain_claimed(settings.model_copy(update={"redis": unreachable}), spool)

        assert (found.state, found.facts["parcel"]) == ("claimed", parcel)
        assert "the broker is unavailable" in found.sentences[-1]

    def test_a_path_in_claimed(self, settings: Settings, spool: Spool, parcel: str) -> None:
        assert explain_one(settings, spool, f"claimed/{parcel}/x/b.pdf".encode()).path == b"x/b.pdf"


def test_a_done_file_is_explained_with_its_time(settings: Settings, spool: Spool) -> None:
    parcel = spool.claimed(b"a.pdf")
    with spool.folders() as folders:
        move_to_done(Disk(), folders, parcel, b"a.pdf")

    found = explain_one(settings, spool, b"inbox/a.pdf")

    assert (found.folder, found.state) == ("done", "done")
    assert found.since == pytest.approx(spool.where(b"done/a.pdf").stat().st_ctime)


def test_an_output_is_explained(settings: Settings, spool: Spool) -> None:
    spool.put(b"out/x/a.txt")

    found = explain_one(settings, spool, b"out/x/a.txt")

    assert (found.folder, found.path, found.state) == ("out", b"x/a.txt", "output")
    assert "grep output_delivered" in found.sentences[1]


@pytest.mark.parametrize("typed", [b"failed/a.pdf", b"failed/a.pdf.error.txt", b"inbox/a.pdf"])
def test_a_failed_file_is_explained_with_its_reason_and_a_remedy(typed: bytes, settings: Settings, spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "no total", attempts=4)

    found = explain_one(settings, spool, typed)

    assert (found.folder, found.path, found.state) == ("failed", b"a.pdf", "failed")
    assert "reason: no total" in found.sentences
    assert "tried 4 times" in found.sentences[1]
    assert found.sentences[-1].endswith(f"inboxd retry {spool.root}/failed/a.pdf")


def test_a_path_in_two_folders_has_two_explanations(
    settings: Settings, spool: Spool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    spool.put(b"inbox/a.pdf")
    spool.put(b"done/a.pdf")

    found = explain(with_rules(settings), "a.pdf")

    assert [(explanation.folder, explanation.state) for explanation in found] == [("inbox", "ready"), ("done", "done")]


def test_an_explanation_changes_nothing(settings: Settings, spool: Spool, valkey: redis.Redis) -> None:
    parcel = spool.claimed(b"x/c.pdf")
    spool.put(b"inbox/a.pdf")
    spool.put(b"done/b.pdf")
    drop_and_fail(spool, b"d.pdf")
    paths = [b"inbox/a.pdf", b"claimed/%s/x/c.pdf" % parcel.encode(), b"done/b.pdf", b"failed/d.pdf", b"inbox/none"]
    os.sync()
    before, keys = snapshot(spool.root), sorted(valkey.keys())

    for path in paths * 2:
        explain(with_rules(settings), os.fsdecode(bytes(spool.root) + b"/" + path))

    def without_access_times(stats: dict[Path, tuple[int, ...]]) -> dict[Path, tuple[int, ...]]:
        return {path: (stat[0], stat[1], stat[3]) for path, stat in stats.items()}

    assert without_access_times(snapshot(spool.root)) == without_access_times(before)
    assert snapshot(spool.root)[spool.where(b"inbox/a.pdf")] == before[spool.where(b"inbox/a.pdf")]
    assert sorted(valkey.keys()) == keys


@pytest.mark.usefixtures("_settings_file")
class TestCommand:
    @pytest.fixture
    def _settings_file(self, spool: Spool, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = spool.root.parent / "settings.toml"
        path.write_text(f'redis.url = "{valkey_url}"\n[inbox.drop]\nroot = "drop"\n')
        monkeypatch.chdir(path.parent)
        monkeypatch.setenv("INBOXD_SETTINGS", str(path))  # for root, the current folder does not count

    def test_a_hostile_name_is_shown_on_one_line(self, spool: Spool) -> None:
        drop_and_fail(spool, HOSTILE, "no total")

        result = CliRunner().invoke(cli, ["explain", os.fsdecode(b"drop/failed/" + HOSTILE)])

        assert result.exit_code == 0
        assert all(line.isprintable() for line in result.stdout.splitlines())
        assert not any(line.lstrip().startswith("{") for line in result.stdout.splitlines())

    def test_the_json_has_the_facts(self, spool: Spool) -> None:
        drop_and_fail(spool, HOSTILE, "no total", attempts=2)

        result = CliRunner().invoke(cli, ["explain", "--json", os.fsdecode(b"drop/failed/" + HOSTILE)])

        (found,) = json.loads(result.stdout)["found"]
        assert (found["inbox"], found["folder"], found["state"]) == ("drop", "failed", "failed")
        assert (found["reason"], found["attempts"]) == ("no total", 2)

    @pytest.mark.parametrize("typed", ["drop/inbox/none", "none", "/etc/passwd", "..", "drop/inbox", "drop/inbox/x/../../y"])
    def test_an_unknown_path_is_not_found(self, typed: str) -> None:
        result = CliRunner().invoke(cli, ["explain", typed])

        assert result.exit_code == 1
        assert ": not found" in result.stdout
        assert "inboxd trace" in result.stdout

    def test_several_paths_are_explained_in_order(self, spool: Spool) -> None:
        drop_and_fail(spool, b"a.pdf", "no total")
        drop_and_fail(spool, b"b.pdf", "no date")

        text = CliRunner().invoke(cli, ["explain", "drop/failed/b.pdf", "drop/failed/a.pdf"])
        lines = CliRunner().invoke(cli, ["explain", "--json", "drop/failed/a.pdf", "none", "drop/failed/b.pdf"])

        assert text.exit_code == 0
        assert text.stdout.index("no date") < text.stdout.index("no total")
        assert lines.exit_code == 1
        assert [len(json.loads(line)["found"]) for line in lines.stdout.splitlines()] == [1, 0, 1]

    def test_an_unknown_path_has_no_explanation_in_json(self) -> None:
        result = CliRunner().invoke(cli, ["explain", "--json", secrets.token_hex(8)])

        assert (result.exit_code, json.loads(result.stdout)["found"]) == (1, [])


@pytest.mark.parametrize(
    "name",
    [
        b"a.pdf",
        b"a b.pdf",
        b"a'; rm -rf $HOME #.pdf",
        b"x\n\x1b[2J\\ '.pdf",
        b"\xff\xe4",
        "\u65e5\u672c".encode(),
        b"-rf",
        b"$(id)`id`",
    ],
)
def test_a_quoted_path_means_itself_in_a_shell(name: bytes) -> None:
    quoted = quote_for_shell(name)

    echoed = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True).stdout
    assert echoed.removeprefix(b"./") == name
    assert quoted.isprintable()
