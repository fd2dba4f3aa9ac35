"""The services on a booted systemd: what is dropped is filed, whoever dies, hangs, stops or is away meanwhile."""

from contextlib import ExitStack

import pytest
from support.boxes.box import Box
from support.boxes.installed import (
    ROOT,
    SERVICES,
    SETTINGS,
    WATCHER,
    WORKER,
    drop,
    edited,
    files_what_is_dropped,
    gives_back_what_it_works_on,
    is_done,
    keeps_droppers_apart,
    lets_what_is_brief_end,
    pids,
    replaces_a_stopped_watcher,
)

pytestmark = pytest.mark.systemd


def test_a_file_dropped_by_a_member_of_the_group_is_filed_after_the_boot(shared: Box) -> None:
    files_what_is_dropped(shared)


def test_droppers_can_neither_list_nor_read_nor_delete_each_others_files(shared: Box) -> None:
    keeps_droppers_apart(shared)


def test_who_is_not_in_the_group_can_drop_nothing(shared: Box) -> None:
    done = shared.run("touch", f"{ROOT}/inbox/c.txt", user="carol", check=False)

    assert done.returncode != 0


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_and_files(shared: Box, service: str) -> None:
    before = shared.pid(service)

    shared.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", service)

    shared.wait_until(lambda: shared.pid(service) not in (0, before), what=f"another {service}")
    files_what_is_dropped(shared)


def test_a_watcher_that_hangs_is_replaced_by_the_watchdog(box: Box) -> None:
    replaces_a_stopped_watcher(box)

    assert any("Watchdog timeout" in str(line["MESSAGE"]) for line in box.journal("-u", WATCHER))


def test_a_stop_puts_a_running_handlers_file_back_and_a_start_files_it(box: Box) -> None:
    gives_back_what_it_works_on(box)


def test_a_stop_lets_brief_handlers_end(box: Box) -> None:
    lets_what_is_brief_end(box)


def test_another_users_process_is_hidden_from_the_worker_and_not_taken_for_dead(shared: Box) -> None:
    inside = (
        "nsenter",
        "--mount",
        f"--target={shared.pid(WORKER)}",
        "setpriv",
        "--reuid=inboxd",
        "--regid=inboxd",
        "--clear-groups",
    )
    ask = (
        "from inboxd.tasks.worker.process_identity import liveness, process_token\n"
        "namespace = process_token('box').split('/')[1]\n"
        "print(*(liveness(f'box/{namespace}/{pid}/1/1') for pid in (1, 4194303)))"
    )

    said = shared.run(*inside, "/opt/inboxd/current/bin/python", "-c", ask).stdout

    assert said.split() == ["unknown", "dead"]


def test_files_wait_for_a_redis_that_is_stopped_and_nobody_dies_of_it(shared: Box) -> None:
    before, now = pids(shared), shared.now()

    shared.run("systemctl", "stop", "redis-server")
    drop(shared, "waits.txt")
    shared.wait_until(lambda: shared.journal(now, "EVENT=broker_unavailable"), what="Redis is missed")
    shared.run("systemctl", "start", "redis-server")

    shared.wait_until(lambda: is_done(shared, "waits.txt"), what="waits.txt is in done/")
    assert pids(shared) == before


def test_the_services_start_before_redis_does(box: Box) -> None:
    box.run("systemctl", "stop", "redis-server")
    box.run("systemctl", "kill", "--signal=KILL", *SERVICES)

    box.run("systemctl", "restart", *SERVICES)

    assert box.show("redis-server", "ActiveState") == "inactive"
    box.run("systemctl", "start", "redis-server")
    files_what_is_dropped(box)


@pytest.mark.parametrize("service", SERVICES)
def test_a_reload_with_broken_settings_fails_with_the_reason_and_reaches_nobody(shared: Box, service: str) -> None:
    before, now = pids(shared), shared.now()

    with edited(shared, SETTINGS, "root = ", "roof = "):
        done = shared.run("systemctl", "reload", service, check=False)

        assert done.returncode != 0
        said = shared.journal(now, "-u", service)
        assert any("did you mean root?" in str(line["MESSAGE"]) for line in said)
        assert not any(line.get("EVENT") == "settings_applied" for line in said)
        files_what_is_dropped(shared)
    assert pids(shared) == before


@pytest.mark.parametrize("service", SERVICES)
def test_a_reload_takes_up_what_was_changed_and_the_process_stays(shared: Box, service: str) -> None:
    before, now = pids(shared), shared.now()

    with ExitStack() as put_back:
        put_back.callback(shared.run, "systemctl", "reload", service)
        put_back.enter_context(edited(shared, SETTINGS, "settle_seconds = 0.1", "settle_seconds = 0.2"))
        shared.run("systemctl", "reload", service)

        taken = (now, "-u", service, "EVENT=settings_applied", 'CHANGED=["drop"]')
        shared.wait_until(lambda: shared.journal(*taken), what="the change is taken up")
        files_what_is_dropped(shared)
    assert pids(shared) == before


def test_a_reload_outside_of_the_sandbox_is_refused_with_the_remedy(shared: Box) -> None:
    now = shared.now()
    shared.run("sh", "-c", "cd /srv && mkdir -p more/inbox more/claimed more/done more/failed && chown -R inboxd more")

    with edited(shared, SETTINGS, "[inbox.drop]", '[inbox.more]\nroot = "/srv/more"\n\n[inbox.drop]'):
        done = shared.run("systemctl", "reload", WATCHER, check=False)

    assert done.returncode != 0
    said = shared.journal(now, "-u", WATCHER)
    assert any("inboxd systemd sync" in str(line["MESSAGE"]) for line in said)
