"""`inboxd explain`: for every place and state the reason, by the rules that the watcher goes by; and no trace is left."""

import dataclasses
import json
import os
import secrets
import subprocess
import time
from pathlib import Path

import pytest
import redis
from celery.states import SUCCESS
from click.testing import CliRunner
from support.disk.failed_files import drop_and_fail
from support.disk.spools import Spool
from support.valkey import settings_for

from inboxd.broker import heartbeat
from inboxd.broker.heartbeat import Heartbeat, InboxReport, write_heartbeat
from inboxd.broker.leases import Leases
from inboxd.broker.outages import record_outage
from inboxd.config.settings import Settings
from inboxd.console.explain.explain import Explanation, explain
from inboxd.console.main import cli
from inboxd.console.paths import quote_for_shell
from inboxd.fs.syscalls import Disk, ignore_lease_breaks
from inboxd.intake.packing import build_parcel, pack
from inboxd.messaging.celery_app import make_app, send_parcel
from inboxd.messaging.queues import WORK_QUEUE
from inboxd.spool.filing import file_done

HOSTILE = b'x\n{"event":"file_done"}\x1b[2J\xff.pdf'
WELL = InboxReport("inotify", "", is_busy=False, outage=None)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    ignore_lease_breaks()
    return Spool.make(tmp_path / "drop")


@pytest.fixture
def settings(spool: Spool, valkey_url: str, valkey: redis.Redis) -> Settings:
    """Return settings with that spool; the watcher has given a sign of life."""
    write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": WELL}))
    return settings_for(valkey_url, spool.root)


@pytest.fixture
def leases(valkey: redis.Redis) -> Leases:
    return Leases(valkey, keep_seconds=60.0)


def patient(settings: Settings, **rules: object) -> Settings:
    """Return the settings with other rules for the inbox."""
    inbox = settings.inbox["drop"].model_copy(update={"settle_seconds": 0.0, "unsure_seconds": 0.0, **rules})
    return settings.model_copy(update={"inbox": {"drop": inbox}})


def one(settings: Settings, spool: Spool, path: bytes) -> Explanation:
    (found,) = explain(settings, os.fsdecode(bytes(spool.root) + b"/" + path))
    return found


def snapshot(root: Path) -> dict[Path, tuple[int, ...]]:
    looks = {path: path.lstat() for path in (root, *root.rglob("*"))}
    return {path: (look.st_mtime_ns, look.st_ctime_ns, look.st_atime_ns, look.st_size) for path, look in looks.items()}


def test_a_fresh_file_is_settling_until_a_moment_that_is_named(settings: Settings, spool: Spool) -> None:
    place = spool.put(b"inbox/x/a.pdf")

    found = one(patient(settings, settle_seconds=60.0), spool, b"inbox/x/a.pdf")

    assert (found.state, found.path) == ("waiting", b"x/a.pdf")
    assert "settling" in found.sentences[0]
    assert found.until == pytest.approx(place.stat().st_ctime + 60.0)


def test_a_file_that_is_open_for_writing_waits_for_that(settings: Settings, spool: Spool) -> None:
    with spool.put(b"inbox/a.pdf").open("ab"):
        found = one(patient(settings), spool, b"inbox/a.pdf")

    assert found.state == "waiting"
    assert "open for writing" in found.sentences[0]


def test_an_empty_file_may_be_a_placeholder(settings: Settings, spool: Spool) -> None:
    spool.put(b"inbox/a.pdf", b"")

    found = one(patient(settings), spool, b"inbox/a.pdf")

    assert found.state == "waiting"
    assert "empty so far" in found.sentences[0]


@pytest.mark.parametrize(
    ("path", "rules", "words"),
    [
        (b"a.part", {}, "a temporary name"),
        (b"a.pdf", {"include": ("*.txt",)}, "no pattern of include = ['*.txt'] matches"),
        (b"x/a.pdf", {"exclude": ("x/*",)}, "exclude = 'x/*' matches"),
        (b".git/x/a.pdf", {}, ".git/ is not looked into: a hidden folder"),
        (b"x/a.pdf", {"recursive": False}, "x/ is not looked into: a sub-folder, and recursive = false"),
    ],
)
def test_what_is_left_alone_is_told_with_its_rule(
    path: bytes, rules: dict[str, object], words: str, settings: Settings, spool: Spool
) -> None:
    spool.put(b"inbox/" + path)

    found = one(patient(settings, **rules), spool, b"inbox/" + path)

    assert (found.state, found.sentences) == ("ignored", [found.sentences[0]])
    assert words in found.sentences[0]


def test_a_folder_that_is_too_deep_and_a_link_are_refused(settings: Settings, spool: Spool) -> None:
    spool.put(b"inbox/x/y/a.pdf")
    spool.where(b"inbox/link").symlink_to("/etc/passwd")

    deep, link = (one(patient(settings, depth_max=1), spool, path) for path in (b"inbox/x/y/a.pdf", b"inbox/link"))

    assert deep.state == link.state == "refused"
    assert "nested more than 1 deep" in deep.sentences[0]
    assert "symbolic link" in link.sentences[0]


def test_a_complete_file_is_ready(settings: Settings, spool: Spool) -> None:
    spool.put(b"inbox/a.pdf")

    found = one(patient(settings), spool, b"inbox/a.pdf")

    assert found.state == "ready"
    assert "next look" in found.sentences[1]


class TestHeldBack:
    @pytest.fixture
    def ready(self, settings: Settings, spool: Spool) -> Settings:
        spool.put(b"inbox/a.pdf")
        return patient(settings)

    def held(self, settings: Settings, spool: Spool) -> str:
        found = one(settings, spool, b"inbox/a.pdf")
        assert found.state == "held back"
        return found.sentences[1]

    def test_by_a_broker_that_is_away(self, ready: Settings, spool: Spool) -> None:
        nowhere = ready.redis.model_copy(update={"url": "unix:///nowhere.sock"})

        assert "the broker is away" in self.held(ready.model_copy(update={"redis": nowhere}), spool)

    def test_by_folders_in_trouble(self, ready: Settings, spool: Spool, valkey: redis.Redis) -> None:
        record_outage(valkey, "here", "drop", "/srv: No space left on device")

        assert "No space left on device" in self.held(ready, spool)

    def test_by_a_watcher_that_is_away(self, ready: Settings, spool: Spool, valkey: redis.Redis) -> None:
        valkey.delete(heartbeat.KEY + "here")

        assert "no watcher gives a sign of life" in self.held(ready, spool)

    def test_by_what_the_watcher_says(self, ready: Settings, spool: Spool, valkey: redis.Redis) -> None:
        lost = dataclasses.replace(WELL, outage="/srv/drop/done: Stale file handle")
        write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": lost}))

        assert "Stale file handle" in self.held(ready, spool)

    def test_by_what_is_in_flight(self, ready: Settings, spool: Spool) -> None:
        spool.claimed(b"b", b"c")

        assert "in_flight_files_max" in self.held(patient(ready, in_flight_files_max=2), spool)

    def test_by_others_that_are_before_it(self, ready: Settings, spool: Spool, valkey: redis.Redis) -> None:
        write_heartbeat(valkey, "here", Heartbeat(time.time(), {"drop": dataclasses.replace(WELL, is_busy=True)}))

        assert "others are before it" in self.held(ready, spool)


class TestClaimed:
    @pytest.fixture
    def parcel(self, spool: Spool) -> str:
        return spool.claimed(b"x/a.pdf", b"x/b.pdf")

    def told(self, settings: Settings, spool: Spool) -> Explanation:
        found = one(settings, spool, b"inbox/x/a.pdf")  # asked for where it was dropped
        assert found.folder == "claimed"
        return found

    def test_nobody_looks_after_it(self, settings: Settings, spool: Spool, parcel: str) -> None:
        found = self.told(settings, spool)

        assert (found.state, found.facts["parcel"], found.facts["files"]) == ("claimed", parcel, 2)
        assert f"in parcel {parcel}" in found.sentences[0]
        assert "with 1 others" in found.sentences[0]
        assert "a sweep looks for parcels" in found.sentences[2]

    def test_it_waits_in_a_queue(self, settings: Settings, spool: Spool, parcel: str, leases: Leases) -> None:
        inbox = settings.inbox["drop"]
        leases.queue(parcel, "drop", 30.0)
        with make_app(settings) as app, spool.folders() as folders:
            packed = pack(Disk(), folders, inbox, parcel, [b"x/a.pdf", b"x/b.pdf"])
            send_parcel(app, build_parcel(packed, parcel, inbox, "here"), inbox)

        found = self.told(settings, spool)

        assert (found.state, found.facts["queue"]) == ("queued", WORK_QUEUE)
        assert "waits in the queue inboxd.work" in found.sentences[1]

    def test_a_worker_has_it(self, settings: Settings, spool: Spool, parcel: str, leases: Leases) -> None:
        leases.queue(parcel, "drop", 30.0)
        leases.start(parcel, "farm/0f0f-4026/4711/99/1", 30.0)

        found = self.told(settings, spool)

        assert (found.state, found.facts["attempt"]) == ("running", 1)
        assert "process 4711 on farm works on it, attempt 1" in found.sentences[1]

    def test_workers_have_died_over_it(self, settings: Settings, spool: Spool, parcel: str, leases: Leases) -> None:
        leases.queue(parcel, "drop", 30.0)
        leases.start(parcel, "t", 30.0)
        leases.take_over(parcel, leases.read([parcel])[parcel], 30.0, crashed=True)

        found = self.told(settings, spool)

        assert found.facts["crashes"] == 1
        assert any("1 workers have died over it; at 3 it goes to failed/" in sentence for sentence in found.sentences)

    @pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's
    def test_it_waits_to_be_filed_away(self, settings: Settings, spool: Spool, parcel: str, leases: Leases) -> None:
        leases.queue(parcel, "drop", 30.0)
        leases.start(parcel, "t", 30.0)
        leases.finish(parcel, "t", 30.0)
        with make_app(settings, results=True) as app:
            app.backend.store_result(parcel, {}, SUCCESS)

        found = self.told(settings, spool)

        assert (found.state, found.facts["outcome"]) == ("finished", "success")
        assert "its outcome is stored" in found.sentences[-1]

    def test_redis_is_away(self, settings: Settings, spool: Spool, parcel: str) -> None:
        nowhere = settings.redis.model_copy(update={"url": "unix:///nowhere.sock"})

        found = self.told(settings.model_copy(update={"redis": nowhere}), spool)

        assert (found.state, found.facts["parcel"]) == ("claimed", parcel)
        assert "the broker is away" in found.sentences[-1]

    def test_its_path_in_claimed_may_be_named(self, settings: Settings, spool: Spool, parcel: str) -> None:
        assert one(settings, spool, f"claimed/{parcel}/x/b.pdf".encode()).path == b"x/b.pdf"


def test_a_file_that_is_done_is_told_with_its_time(settings: Settings, spool: Spool) -> None:
    parcel = spool.claimed(b"a.pdf")
    with spool.folders() as folders:
        file_done(Disk(), folders, parcel, b"a.pdf")

    found = one(settings, spool, b"inbox/a.pdf")

    assert (found.folder, found.state) == ("done", "done")
    assert found.since == pytest.approx(spool.where(b"done/a.pdf").stat().st_ctime)


@pytest.mark.parametrize("typed", [b"failed/a.pdf", b"failed/a.pdf.error.txt", b"inbox/a.pdf"])
def test_a_failed_file_is_told_with_its_reason_and_what_to_do(typed: bytes, settings: Settings, spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "no total", attempts=4)

    found = one(settings, spool, typed)

    assert (found.folder, found.path, found.state) == ("failed", b"a.pdf", "failed")
    assert "failed of: no total" in found.sentences
    assert "tried 4 times" in found.sentences[1]
    assert found.sentences[-1].endswith(f"inboxd retry {spool.root}/failed/a.pdf")


def test_a_file_that_is_in_two_places_is_told_twice(
    settings: Settings, spool: Spool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    spool.put(b"inbox/a.pdf")
    spool.put(b"done/a.pdf")

    found = explain(patient(settings), "a.pdf")

    assert [(one.folder, one.state) for one in found] == [("inbox", "ready"), ("done", "done")]


def test_a_question_leaves_no_trace(settings: Settings, spool: Spool, valkey: redis.Redis) -> None:
    parcel = spool.claimed(b"x/c.pdf")
    spool.put(b"inbox/a.pdf")
    spool.put(b"done/b.pdf")
    drop_and_fail(spool, b"d.pdf")
    paths = [b"inbox/a.pdf", b"claimed/%s/x/c.pdf" % parcel.encode(), b"done/b.pdf", b"failed/d.pdf", b"inbox/none"]
    os.sync()
    before, keys = snapshot(spool.root), sorted(valkey.keys())

    for path in paths * 2:
        explain(patient(settings), os.fsdecode(bytes(spool.root) + b"/" + path))

    def without_reading(looks: dict[Path, tuple[int, ...]]) -> dict[Path, tuple[int, ...]]:
        return {path: (look[0], look[1], look[3]) for path, look in looks.items()}

    assert without_reading(snapshot(spool.root)) == without_reading(before)
    assert snapshot(spool.root)[spool.where(b"inbox/a.pdf")] == before[spool.where(b"inbox/a.pdf")]
    assert sorted(valkey.keys()) == keys


@pytest.mark.usefixtures("_settings_file")
class TestCommand:
    @pytest.fixture
    def _settings_file(self, spool: Spool, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = spool.root.parent / "settings.toml"
        path.write_text(f'redis.url = "{valkey_url}"\n[inbox.drop]\nroot = "drop"\n')
        monkeypatch.chdir(path.parent)

    def test_a_hostile_name_is_shown_on_one_line(self, spool: Spool) -> None:
        drop_and_fail(spool, HOSTILE, "no total")

        result = CliRunner().invoke(cli, ["explain", os.fsdecode(b"drop/failed/" + HOSTILE)])

        assert result.exit_code == 0
        assert all(line.isprintable() for line in result.stdout.splitlines())
        assert not any(line.lstrip().startswith("{") for line in result.stdout.splitlines())

    def test_json_has_what_programs_need(self, spool: Spool) -> None:
        drop_and_fail(spool, HOSTILE, "no total", attempts=2)

        result = CliRunner().invoke(cli, ["explain", "--json", os.fsdecode(b"drop/failed/" + HOSTILE)])

        (found,) = json.loads(result.stdout)["found"]
        assert (found["inbox"], found["folder"], found["state"]) == ("drop", "failed", "failed")
        assert (found["reason"], found["attempts"]) == ("no total", 2)

    @pytest.mark.parametrize("typed", ["drop/inbox/none", "none", "/etc/passwd", "..", "drop/inbox", "drop/inbox/x/../../y"])
    def test_of_what_is_not_there_nothing_is_known(self, typed: str) -> None:
        result = CliRunner().invoke(cli, ["explain", typed])

        assert result.exit_code == 1
        assert "nothing is known of it" in result.stdout
        assert "inboxd trace" in result.stdout

    def test_a_name_that_nobody_has_used_is_asked_for_in_json(self) -> None:
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
def test_a_path_that_people_are_told_to_type_means_itself_in_a_shell(name: bytes) -> None:
    shown = quote_for_shell(name)

    echoed = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True).stdout
    assert echoed.removeprefix(b"./") == name
    assert shown.isprintable()
