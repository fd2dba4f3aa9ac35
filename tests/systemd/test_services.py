"""The services on a booted systemd: dropped files are filed despite crashes, hangs, stops and outages."""

from contextlib import ExitStack

import pytest
from support.boxes.box import Box
from support.boxes.installed import (
    ROOT,
    SERVICES,
    SETTINGS,
    WATCHER,
    WORKER,
    assert_dropped_file_is_filed,
    assert_droppers_are_isolated,
    assert_stop_requeues_running_file,
    assert_stop_waits_for_short_handler,
    assert_watchdog_restarts_watcher,
    drop,
    edited,
    is_done,
    pids,
)

pytestmark = pytest.mark.systemd


def test_a_dropped_file_is_filed_after_the_boot(shared_box: Box) -> None:
    assert_dropped_file_is_filed(shared_box)


def test_droppers_can_neither_list_nor_read_nor_delete_each_others_files(shared_box: Box) -> None:
    assert_droppers_are_isolated(shared_box)


def test_a_user_outside_the_group_can_not_drop_files(shared_box: Box) -> None:
    result = shared_box.run("touch", f"{ROOT}/inbox/c.txt", user="carol", check=False)

    assert result.returncode != 0


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_is_restarted(shared_box: Box, service: str) -> None:
    before = shared_box.pid(service)

    shared_box.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", service)

    shared_box.wait_until(lambda: shared_box.pid(service) not in (0, before), goal=f"{service} is restarted")
    assert_dropped_file_is_filed(shared_box)


def test_the_watchdog_restarts_a_watcher_that_hangs(box: Box) -> None:
    assert_watchdog_restarts_watcher(box)

    assert any("Watchdog timeout" in str(line["MESSAGE"]) for line in box.journal("-u", WATCHER))


def test_a_stop_requeues_a_running_handlers_file_and_a_start_files_it(box: Box) -> None:
    assert_stop_requeues_running_file(box)


def test_a_stop_waits_for_short_handlers(box: Box) -> None:
    assert_stop_waits_for_short_handler(box)


def test_another_users_process_is_hidden_from_the_worker_and_its_liveness_is_unknown(shared_box: Box) -> None:
    in_sandbox = ("nsenter", "--mount", f"--target={shared_box.pid(WORKER)}")
    as_inboxd = ("setpriv", "--reuid=inboxd", "--regid=inboxd", "--clear-groups")
    script = (
        "from inboxd.tasks.process_state.process_identity import liveness, process_token\n"
        "namespace = process_token('box').split('/')[1]\n"
        "print(*(liveness(f'box/{namespace}/{pid}/1/1') for pid in (1, 4194303)))"
    )

    output = shared_box.run(*in_sandbox, *as_inboxd, "/opt/inboxd/current/bin/python", "-c", script).stdout

    assert output.split() == ["unknown", "dead"]


def test_files_wait_for_a_stopped_redis_and_no_service_exits(shared_box: Box) -> None:
    before, now = pids(shared_box), shared_box.now()

    shared_box.run("systemctl", "stop", "redis-server")
    drop(shared_box, "waits.txt")
    shared_box.wait_until(lambda: shared_box.journal(now, "EVENT=broker_unavailable"), goal="the outage is detected")
    shared_box.run("systemctl", "start", "redis-server")

    shared_box.wait_until(lambda: is_done(shared_box, "waits.txt"), goal="waits.txt is in done/")
    assert pids(shared_box) == before


def test_the_services_start_without_redis(box: Box) -> None:
    box.run("systemctl", "stop", "redis-server")
    box.run("systemctl", "kill", "--signal=KILL", *SERVICES)

    box.run("systemctl", "restart", *SERVICES)

    assert box.show("redis-server", "ActiveState") == "inactive"
    box.run("systemctl", "start", "redis-server")
    assert_dropped_file_is_filed(box)


@pytest.mark.parametrize("service", SERVICES)
def test_a_reload_with_invalid_settings_fails_and_changes_nothing(shared_box: Box, service: str) -> None:
    before, now = pids(shared_box), shared_box.now()

    with edited(shared_box, SETTINGS, "root = ", "roof = "):
        result = shared_box.run("systemctl", "reload", service, check=False)

        assert result.returncode != 0
        lines = shared_box.journal(now, "-u", service)
        assert any("did you mean root?" in str(line["MESSAGE"]) for line in lines)
        assert not any(line.get("EVENT") == "settings_applied" for line in lines)
        assert_dropped_file_is_filed(shared_box)
    assert pids(shared_box) == before


@pytest.mark.parametrize("service", SERVICES)
def test_a_reload_applies_changed_settings_without_a_restart(shared_box: Box, service: str) -> None:
    before, now = pids(shared_box), shared_box.now()

    with ExitStack() as restore:
        restore.callback(shared_box.run, "systemctl", "reload", service)
        restore.enter_context(edited(shared_box, SETTINGS, "settle_seconds = 0.1", "settle_seconds = 0.2"))
        shared_box.run("systemctl", "reload", service)

        applied = (now, "-u", service, "EVENT=settings_applied", 'CHANGED=["drop"]')
        shared_box.wait_until(lambda: shared_box.journal(*applied), goal="the change is applied")
        assert_dropped_file_is_filed(shared_box)
    assert pids(shared_box) == before


def test_a_reload_with_an_inbox_outside_the_sandbox_is_refused(shared_box: Box) -> None:
    now = shared_box.now()
    shared_box.run("sh", "-c", "cd /srv && mkdir -p more/inbox more/claimed more/done more/failed && chown -R inboxd more")

    with edited(shared_box, SETTINGS, "[inbox.drop]", '[inbox.more]\nroot = "/srv/more"\n\n[inbox.drop]'):
        result = shared_box.run("systemctl", "reload", WATCHER, check=False)

    assert result.returncode != 0
    lines = shared_box.journal(now, "-u", WATCHER)
    assert any("inboxd systemd sync" in str(line["MESSAGE"]) for line in lines)
