"""The services on a booted systemd: what is dropped is filed, whoever dies, hangs, stops or is away meanwhile."""

import pytest
from support.box import Box
from support.installed import (
    BEAT,
    ROOT,
    SERVICES,
    SETTINGS,
    WATCHER,
    WORKER,
    add_inbox,
    await_active,
    drop,
    edit,
    files_what_is_dropped,
    gives_back_what_it_works_on,
    is_done,
    keeps_droppers_apart,
    lets_what_is_brief_end,
    replaces_a_stopped_watcher,
)

pytestmark = pytest.mark.systemd


def test_a_file_dropped_by_a_member_of_the_group_is_filed_after_the_boot(box: Box) -> None:
    files_what_is_dropped(box)


def test_droppers_can_neither_list_nor_read_nor_delete_each_others_files(box: Box) -> None:
    keeps_droppers_apart(box)


def test_who_is_not_in_the_group_can_drop_nothing(box: Box) -> None:
    await_active(box)

    done = box.run("touch", f"{ROOT}/inbox/c.txt", user="carol", check=False)

    assert done.returncode != 0


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_and_files(box: Box, service: str) -> None:
    await_active(box)
    before = box.pid(service)

    box.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", service)

    box.wait_until(lambda: box.pid(service) not in (0, before), what=f"another {service}")
    files_what_is_dropped(box)


def test_a_watcher_that_hangs_is_replaced_by_the_watchdog(box: Box) -> None:
    replaces_a_stopped_watcher(box)

    assert any("Watchdog timeout" in str(line["MESSAGE"]) for line in box.journal("-u", WATCHER))


def test_a_stop_puts_a_running_handlers_file_back_and_a_start_files_it(box: Box) -> None:
    gives_back_what_it_works_on(box)


def test_a_stop_lets_brief_handlers_end(box: Box) -> None:
    lets_what_is_brief_end(box)


def test_another_users_process_is_hidden_from_the_worker_and_not_taken_for_dead(box: Box) -> None:
    await_active(box)
    inside = (
        "nsenter",
        "--mount",
        f"--target={box.pid(WORKER)}",
        "setpriv",
        "--reuid=inboxd",
        "--regid=inboxd",
        "--clear-groups",
    )
    ask = "from tasks import owner; print(*(owner.life(f'box/{owner._world()}/{pid}/1/1') for pid in (1, 4194303)))"

    said = box.run(*inside, "/opt/inboxd/current/bin/python", "-c", ask).stdout

    assert said.split() == ["unknown", "dead"]


def test_files_wait_for_a_redis_that_is_stopped_and_nobody_dies_of_it(box: Box) -> None:
    await_active(box)

    box.run("systemctl", "stop", "redis-server")
    drop(box, "a.txt")
    box.wait_until(lambda: any("broker_away" in str(line["MESSAGE"]) for line in box.journal("-u", WATCHER)))
    box.run("systemctl", "start", "redis-server")

    box.wait_until(lambda: is_done(box, "a.txt"), what="a.txt is in done/")
    assert [box.show(service, "NRestarts") for service in SERVICES] == ["0", "0", "0"]


def test_the_services_start_before_redis_does(box: Box) -> None:
    box.run("systemctl", "stop", "redis-server", *SERVICES)

    box.run("systemctl", "start", *SERVICES)

    box.run("systemctl", "start", "redis-server")
    files_what_is_dropped(box)


@pytest.mark.parametrize("service", SERVICES)
def test_a_reload_with_broken_settings_is_refused_and_reaches_nobody(box: Box, service: str) -> None:
    await_active(box)
    before = box.pid(service)
    edit(box, SETTINGS, "root = ", "roof = ")

    done = box.run("systemctl", "reload", service, check=False)

    assert done.returncode != 0
    assert any("did you mean root?" in str(line["MESSAGE"]) for line in box.journal("-u", service))
    edit(box, SETTINGS, "roof = ", "root = ")
    assert box.pid(service) == before
    files_what_is_dropped(box)


def test_a_reload_outside_of_the_sandbox_is_refused_with_the_remedy(box: Box) -> None:
    await_active(box)
    add_inbox(box, "more", "/srv/more")
    box.run("sh", "-c", "cd /srv && mkdir -p more/inbox more/claimed more/done more/failed && chown -R inboxd more")

    done = box.run("systemctl", "reload", WATCHER, check=False)

    assert done.returncode != 0
    assert any("inboxd systemd sync" in str(line["MESSAGE"]) for line in box.journal("-u", WATCHER))


@pytest.mark.parametrize("service", [WATCHER, WORKER, BEAT])
def test_a_reload_with_good_settings_succeeds_and_loses_nothing(box: Box, service: str) -> None:
    await_active(box)
    edit(box, SETTINGS, "settle_seconds = 0.1", "settle_seconds = 0.2")

    box.run("systemctl", "reload", service)

    files_what_is_dropped(box)
