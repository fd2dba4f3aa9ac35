"""Who may see done/ and failed/ of an installed inbox: people with their own groups, and services in their sandboxes."""

from collections.abc import Callable

import pytest
from support.boxes.box import Box
from support.boxes.installed import FIRST_SETTINGS, INBOXD, ROOT, SETTINGS, WATCHER, WORKER, await_active, drop, edit, is_done

pytestmark = pytest.mark.systemd

REASON = "only PDF files can be booked"
DROPPERS, NOBODY = 'visible_to = "droppers"\n', 'visible_to = "nobody"\n'
FAILED, DONE = f"{ROOT}/failed", f"{ROOT}/done"


def note_of(name: str) -> str:
    return f"{FAILED}/{name}.error.txt"


def drop_refused(box: Box, name: str) -> str:
    """Drop a file as alice that the handler rejects; return the path of its note once it is written."""
    drop(box, name)
    box.wait_until(lambda: box.path(note_of(name)).is_file(), goal=f"{name} has a note")
    return note_of(name)


def can(box: Box, user: str, *command: str) -> bool:
    """Return whether a user's command succeeds."""
    return box.run(*command, user=user, check=False).returncode == 0


def let_droppers_list(box: Box) -> None:
    """Let droppers list inbox/, reload the programs that share folders, and wait until failed/ and done/ can be listed, too."""
    box.run("chmod", "3770", f"{ROOT}/inbox")
    box.run("systemctl", "reload", WATCHER, WORKER)
    box.wait_until(lambda: can(box, "alice", "ls", FAILED, DONE), goal="alice may list failed/ and done/")


@pytest.fixture
def sharing_box(boot_with: Callable[[dict[str, str]], Box]) -> Box:
    """Boot a box whose droppers may see notes."""
    box = boot_with({SETTINGS: FIRST_SETTINGS + DROPPERS})
    await_active(box)
    return box


def test_a_dropper_reads_the_note_of_a_failed_file_and_nobody_else_sees_a_name(sharing_box: Box) -> None:
    note = drop_refused(sharing_box, "refuse.txt")
    drop(sharing_box, "a.txt")
    sharing_box.wait_until(lambda: is_done(sharing_box, "a.txt"), goal="a.txt is in done/")

    assert REASON in sharing_box.run("cat", note, user="alice").stdout
    assert can(sharing_box, "carol", "ls", ROOT)  # not in the droppers' group
    for command in (("cat", note), ("ls", FAILED), ("ls", DONE), ("cat", f"{DONE}/a.txt"), ("ls", f"{ROOT}/claimed")):
        assert not can(sharing_box, "carol", *command), command
    assert not can(sharing_box, "alice", "ls", FAILED)  # inbox/ can't be listed either
    assert not can(sharing_box, "alice", "ls", DONE)


def test_droppers_can_not_write_into_shared_folders_and_claimed_is_closed(sharing_box: Box) -> None:
    note = drop_refused(sharing_box, "refuse.txt")

    for command in (("touch", f"{FAILED}/b"), ("touch", f"{DONE}/b"), ("rm", "-f", note), ("ls", f"{ROOT}/claimed")):
        assert not can(sharing_box, "alice", *command), command
    assert not can(sharing_box, "alice", "sh", "-c", f"echo more >>{note}")
    assert not can(sharing_box, "bob", "cat", f"{FAILED}/refuse.txt")  # another dropper's file
    assert sharing_box.run("stat", "--format=%a", f"{ROOT}/claimed").stdout == "700\n"


def test_a_sub_folder_that_is_dropped_later_is_visible_too(sharing_box: Box) -> None:
    sharing_box.run("mkdir", f"{ROOT}/inbox/2026", user="alice")

    note = drop_refused(sharing_box, "2026/refuse.txt")

    assert REASON in sharing_box.run("cat", note, user="alice").stdout
    assert not can(sharing_box, "carol", "cat", note)


def test_nobody_closes_the_folders_at_a_reload(sharing_box: Box) -> None:
    note = drop_refused(sharing_box, "refuse.txt")
    assert can(sharing_box, "alice", "cat", note)

    edit(sharing_box, SETTINGS, DROPPERS, NOBODY)
    sharing_box.run("systemctl", "reload", WATCHER, WORKER)

    sharing_box.wait_until(lambda: not can(sharing_box, "alice", "cat", note), goal="the note is closed")
    sharing_box.wait_until(lambda: modes(sharing_box) == "750\n750\n", goal="the folders have their former modes")
    assert not can(sharing_box, "alice", "cat", drop_refused(sharing_box, "refuse-2.txt"))


def modes(box: Box) -> str:
    return box.run("stat", "--format=%a", DONE, FAILED).stdout


def test_droppers_see_new_notes_after_a_reload_and_list_the_folders_if_they_may_list_the_inbox(box: Box) -> None:
    await_active(box)
    old = drop_refused(box, "refuse.txt")
    assert not can(box, "alice", "cat", old)

    with box.path(SETTINGS).open("a") as settings:
        settings.write(DROPPERS)
    assert "reload the services" in box.run(INBOXD, "systemd", "sync").stdout  # the roots are the same
    box.run("systemctl", "reload", WATCHER, WORKER)
    box.wait_until(lambda: can(box, "alice", "test", "-x", FAILED), goal="alice may enter failed/")

    assert REASON in box.run("cat", drop_refused(box, "refuse-2.txt"), user="alice").stdout
    assert not can(box, "alice", "cat", old)  # a note from before the change keeps its permissions

    let_droppers_list(box)
    assert not can(box, "carol", "ls", FAILED)
    assert not can(box, "carol", "ls", DONE)
    assert "visible_to" not in box.run(INBOXD, "check").stdout


def test_with_group_those_of_the_services_group_see_notes_and_droppers_do_not(
    boot_with: Callable[[dict[str, str]], Box],
) -> None:
    box = boot_with({SETTINGS: FIRST_SETTINGS + 'visible_to = "group"\n'})
    await_active(box)
    box.run("usermod", "-aG", "inboxd", "carol")

    note = drop_refused(box, "refuse.txt")

    box.wait_until(lambda: can(box, "carol", "cat", note), goal="carol may read the note")
    assert can(box, "carol", "ls", FAILED)
    assert not can(box, "carol", "touch", f"{FAILED}/b")
    assert not can(box, "alice", "cat", note)
