"""`inboxd try`: each way in which a handler can end, told for each file, which stays as it is."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inboxd.config.loading import SETTINGS_VARIABLE
from inboxd.config.rules import Inbox
from inboxd.console.main import cli
from inboxd.console.trial import process
from inboxd.console.trial.process import OUTPUT_BYTES_MAX, Output
from inboxd.console.trial.render import LINES_MAX, foretell, render_trial, would_be_done
from inboxd.console.trial.trial import Trial
from inboxd.messaging.outcome import Verdict

HANDLERS = """
import logging, os, signal, subprocess, sys, time
from pathlib import Path
from inboxd import RejectFile

def size(file):
    print("printed", file.filename)
    print("to stderr", file=sys.stderr)
    subprocess.run(["echo", "by a program"])
    logging.getLogger("own").info("logged")
    return {"size": len(file.read()), "attempt": file.attempt, "owner": file.owner.uid}

async def asynchronous(file):
    return len(await file.as_starlette().read())

def reject(file):
    raise RejectFile("the invoice has no number")

def fail(file):
    return 1 / 0

def leave_at_once(file):
    os._exit(0)

def crash(file):
    os.kill(os.getpid(), signal.SIGSEGV)

def sleep(file):
    time.sleep(60)

def ignore_the_limit(file):
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    time.sleep(60)

def change(file):
    file.path.write_text("changed")

def change_the_mode(file):
    file.path.chmod(0o600 if file.path.stat().st_mode & 0o077 else 0o644)

def delete(file):
    file.path.unlink()

def write_beside(file):
    file.path.with_name("result.csv").write_text("1")
    return {1, 2}

def start_a_program(file):
    Path("pid").write_text(str(subprocess.Popen(["sleep", "600"]).pid))

class Book:
    def __call__(self, file):
        return "called"

book = Book()
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)
    (tmp_path / "invoices.py").write_text(HANDLERS)
    (tmp_path / "a.txt").write_bytes(b"content")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["try", *arguments])


def test_a_result_with_its_time_and_all_that_was_printed_is_shown() -> None:
    result = run("invoices:size", "a.txt")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "a.txt"
    printed = {"  | printed a.txt", "  | to stderr", "  | by a program", "  | INFO own: logged"}
    assert printed == {line for line in lines if "|" in line}
    assert f"  result: {{'size': 7, 'attempt': 1, 'owner': {os.getuid()}}}" in lines
    assert any(line.startswith("  time:   0.") for line in lines)
    assert lines[-1] == "  file:   would go to done/"


@pytest.mark.parametrize(
    ("handler", "code", "told"),
    [
        ("asynchronous", 0, "result: 7"),
        ("book", 0, "result: 'called'"),
        ("reject", 1, "would go to failed/ at once: the invoice has no number"),
        ("fail", 1, "would go to failed/ after 3 retries (2, 4, 8 s later): ZeroDivisionError: division by zero"),
        ("missing", 1, "AttributeError: module 'invoices' has no attribute 'missing'"),
        ("Book", 1, "is a class"),
        ("leave_at_once", 1, "failed/ once this has happened 3 times: the handler's process ended: exit code 0"),
        ("crash", 1, "the handler's process ended: signal SIGSEGV"),
        ("change", 1, "would go back to inbox/, and after 3 changes to failed/: the handler has changed it"),
        ("change_the_mode", 1, "would go back to inbox/, and after 3 changes to failed/"),
        ("delete", 1, "would be lost: the handler has deleted or moved it"),
        ("write_beside", 0, "left:   result.csv"),
        ("write_beside", 0, "result: of type set, which is not kept"),
    ],
)
def test_what_would_become_of_a_file_is_told_and_the_file_stays(handler: str, code: int, told: str, tmp_path: Path) -> None:
    before = (tmp_path / "a.txt").stat()

    result = run(f"invoices:{handler}", "a.txt")

    assert (told in result.stdout, result.exit_code) == (True, code), result.output
    assert (tmp_path / "a.txt").read_bytes() == b"content"
    assert (tmp_path / "a.txt").stat().st_mtime_ns == before.st_mtime_ns
    assert {path.name for path in tmp_path.iterdir()} <= {"a.txt", "invoices.py", "__pycache__"}


def test_a_traceback_begins_in_the_handlers_module() -> None:
    lines = run("invoices:fail", "a.txt").stdout.splitlines()

    assert lines[1] == "  | Traceback (most recent call last):"
    assert 'invoices.py", line' in lines[2]


def test_a_handler_that_hangs_is_interrupted_at_the_time_limit() -> None:
    result = run("--time-limit", "1", "invoices:sleep", "a.txt")

    assert result.exit_code == 1
    assert "(2, 4, 8 s later): processing took longer than 1 s" in result.stdout


def test_a_handler_that_ignores_its_time_limit_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HARD_LIMIT_GRACE_SECONDS", 0.5)

    result = run("--time-limit", "1", "invoices:ignore_the_limit", "a.txt")

    assert result.exit_code == 1
    assert "the handler went on after its time limit of 1 s, and was killed" in result.stdout


def test_what_a_handler_has_started_ends_with_it(tmp_path: Path) -> None:
    assert run("invoices:start_a_program", "a.txt").exit_code == 0

    pid = int((tmp_path / "pid").read_text())
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        state = "gone"
    assert state in ("gone", "Z", "X")


def test_each_file_is_tried_and_one_that_fails_decides_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a.txt")

    result = run("invoices:size", "a.txt", "link", "a.txt")

    assert result.exit_code == 1
    assert result.stdout.count("would go to done/") == 2
    assert "would go to failed/ at once: " in result.stdout.partition("\nlink\n")[2]


def test_an_inboxs_handler_is_tried_with_its_rules(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        '[inbox.bills]\nroot = "x"\nhandler = "invoices:fail"\nretries = 0\n[inbox.small]\nroot="y"\nsize_bytes_max = 1\n'
    )

    failed = run("--settings", str(file), "--inbox", "bills", "a.txt")
    refused = run("--settings", str(file), "--inbox", "small", "a.txt")
    unknown = run("--settings", str(file), "--inbox", "other", "a.txt")

    assert "failed/ at once, since retries = 0: ZeroDivisionError" in failed.stdout
    assert "failed/ at once: " in refused.stdout
    assert (failed.exit_code, refused.exit_code, unknown.exit_code) == (1, 1, 2)
    assert "the settings have: bills, small" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["invoices", "a.txt"], "is not module:function"),
        (["invoices:size"], "at least one FILE"),
        (["invoices:size", "missing.txt"], "missing.txt is not a file"),
        (["invoices:size", "."], ". is a folder"),
        (["--time-limit", "0", "invoices:size", "a.txt"], "--time-limit"),
        ([], "Missing argument"),
    ],
)
def test_a_command_that_can_not_be_carried_out_has_the_exit_code_2(arguments: list[str], told: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert told in result.stderr


def inbox(**rules: object) -> Inbox:
    return Inbox(**{"root": "try", "name": "try", **rules})  # type: ignore[arg-type]


def test_a_handler_that_is_meant_to_change_its_file_may() -> None:
    trial = Trial(Verdict.DONE, is_changed=True)

    assert foretell(trial, inbox(ignore_changes=True), 3) == "would go to done/"
    assert would_be_done(trial, inbox(ignore_changes=True))
    assert not would_be_done(trial, inbox())


@pytest.mark.parametrize("verdict", [*Verdict, None])
def test_a_file_that_is_gone_would_be_lost_however_its_handler_ends(verdict: Verdict | None) -> None:
    trial = Trial(verdict, "reason", is_gone=True)

    assert foretell(trial, inbox(), 3).startswith("would be lost: ")
    assert not would_be_done(trial, inbox())


@pytest.mark.parametrize(("verdict", "goes_back"), [(Verdict.REJECTED, True), (Verdict.RETRY_ISOLATED, False), (None, False)])
def test_a_changed_file_that_is_rejected_goes_back_and_one_that_is_retried_does_not(
    verdict: Verdict | None, goes_back: bool
) -> None:
    assert foretell(Trial(verdict, "reason", is_changed=True), inbox(), 3).startswith("would go back") is goes_back


def test_one_retry_and_many_are_phrased() -> None:
    trial = Trial(Verdict.RETRY_ISOLATED, "no")

    assert foretell(trial, inbox(retries=1), 3) == "would go to failed/ after 1 retry (2 s later): no"
    assert "after 9 retries (2, 4, 8, 16, 32, … s later)" in foretell(trial, inbox(retries=9), 3)


def test_long_output_and_long_results_are_cut() -> None:
    output = Output(b"line\n" * (LINES_MAX + 7), 99)

    lines = [*render_trial("a", Trial(Verdict.DONE, result="r" * 9000, output=output), inbox(), 3)]

    assert "  | … 7 more lines, and then 99 bytes" in lines
    assert max(map(len, lines)) < 600


def test_a_name_can_not_add_a_line() -> None:
    lines = [*render_trial("a\nb", Trial(Verdict.DONE, left=("c\nd",)), inbox(), 3)]

    assert lines[0] == "a\\nb"
    assert not any("\n" in line for line in lines)


def test_of_an_endless_output_the_beginning_is_kept() -> None:
    read_fd, write_fd = os.pipe()
    output = Output()
    output.collect(os.fdopen(read_fd, "rb"))

    with os.fdopen(write_fd, "wb") as pipe:
        pipe.write(b"x" * (OUTPUT_BYTES_MAX + 5))
    output.wait()

    assert (len(output.text), output.bytes_left_out) == (OUTPUT_BYTES_MAX, 5)


def test_the_files_of_another_apps_task_are_not_tried(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(f'[inbox.books]\nroot = "{tmp_path}"\ntask = "invoices.book"\n')
    (tmp_path / "a.txt").write_text("a")

    arguments = ["try", "--settings", str(tmp_path / "settings.toml"), "--inbox", "books", str(tmp_path / "a.txt")]
    result = CliRunner().invoke(cli, arguments)

    assert result.exit_code == 2
    assert "task invoices.book of another Celery app" in result.output


def test_the_outputs_of_a_chain_are_those_that_would_be_delivered(tmp_path: Path) -> None:
    copies = ", ".join(f'{{ command = ["cp", "{{path}}", "{{outputs}}/{name}"] }}' for name in ("one", "two"))
    (tmp_path / "settings.toml").write_text(
        f'[inbox.a]\nroot = "{tmp_path}"\nhandler = [{copies}]\noutputs = "{{stem}}-{{output}}"\n'
        f'[inbox.b]\nroot = "{tmp_path}/b"\nhandler = [{copies}, {{ command = ["false"] }}]\n'
    )
    (tmp_path / "x.txt").write_text("a")
    outputs = {}

    for inbox in "ab":
        arguments = ["try", "--settings", str(tmp_path / "settings.toml"), "--inbox", inbox, str(tmp_path / "x.txt")]
        result = CliRunner().invoke(cli, arguments)
        outputs[inbox] = [line.strip() for line in result.output.splitlines() if "output:" in line]
        assert result.output.startswith(f"{inbox}: command cp > command cp")
        assert "settings.toml" in result.output.splitlines()[0]

    assert outputs == {"a": ["output: x-one, 1 byte", "output: x-two, 1 byte"], "b": []}
