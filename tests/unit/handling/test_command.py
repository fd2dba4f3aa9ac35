"""A command as a handler, with real programs: arguments, environment, what its exit code means, and what it leaves running."""

import io
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from support.waiting import eventually

from inboxd.config.handler_kinds import HandlerKeys
from inboxd.config.programs import PLACEHOLDERS
from inboxd.handling import run_handler
from inboxd.handling.command import build_argv, describe_file, inherit_environment
from inboxd.handling.run_handler import HandlerCall
from inboxd.messaging.inbox_file import InboxFile
from inboxd.messaging.outcome import Verdict
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import new_parcel_id

LIMIT = 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "march report.csv"
    path.write_bytes(b"a,b\n1,2\n")
    return path


def run(path: Path, *command: str, **keys: object) -> HandlerCall:
    handler = run_handler.load_handler(HandlerKeys.model_validate({"command": command, **keys}))
    return run_handler.run_handler(handler, InboxFile.of(path, relative_path=path.name), LIMIT, time.monotonic())


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", code)


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


# arguments


def test_each_placeholder_has_its_value(path: Path) -> None:
    file = InboxFile.of(path, relative_path="2026/march report.csv", inbox="reports", attempt=2)

    argv = build_argv(("program", *(f"{{{word}}}" for word in PLACEHOLDERS)), file)

    assert argv == [
        "program", "2", "text/csv", file.id, "reports", "march report.csv", str(file.outputs_folder), str(path),
        "2026/march report.csv", file.sha256, "8", "march report", ".csv",
    ]  # fmt: skip


def test_a_placeholder_may_be_a_part_of_an_argument_and_double_braces_are_braces(path: Path) -> None:
    argv = build_argv(("awk", "{print $1}{{name}}", "--out=/srv/{stem}-{size}.pdf"), InboxFile.of(path))

    assert argv == ["awk", "{print $1}{name}", "--out=/srv/march report-8.pdf"]


@pytest.mark.parametrize("name", ["-rf", "--help", "-"])
@pytest.mark.parametrize("argument", ["{name}", "{relative_path}", "{stem}.pdf"])
def test_a_name_that_begins_with_a_dash_is_no_option(name: str, argument: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")

    (_, filled) = build_argv(("rm", argument), InboxFile.of(tmp_path / name))

    assert filled.startswith(f"./{name}")
    assert build_argv(("rm", "-o{name}"), InboxFile.of(tmp_path / name)) == ["rm", f"-o{name}"]


@pytest.mark.parametrize("name", [b"$(touch x); `id` 'a\" *.txt", b"line\nbreak", b"caf\xe9", "\u202egpj.exe".encode()])
def test_a_hostile_name_arrives_as_it_is(name: bytes, tmp_path: Path) -> None:
    file = Path(os.fsdecode(bytes(tmp_path) + b"/" + name))
    file.write_bytes(b"x")
    out = tmp_path / "seen"
    code = (
        "import sys, os; open(sys.argv[1], 'wb').write(b'|'.join([os.fsencode(sys.argv[2]), os.environb[b'INBOXD_FILE_NAME']]))"
    )

    assert run(file, *python(code), str(out), "{name}").verdict is Verdict.DONE

    assert out.read_bytes() == name + b"|" + name


# environment


def test_the_environment_is_small_and_tells_of_the_file(path: Path) -> None:
    file = InboxFile.of(path, relative_path="x/march report.csv", inbox="reports", attempt=2)
    ours = {"PATH": "/bin", "LC_ALL": "C", "HOME": "/root", "A": "1"}

    secrets = {"AWS_SECRET": "x", "INBOXD_HOST": "x"}

    assert inherit_environment(("A", "MISSING", "MODE=fast=1"), ours | secrets) == {**ours, "MODE": "fast=1"}
    assert describe_file(file, "/place") == {
        "INBOXD_FILE_PATH": "/place", "INBOXD_FILE_NAME": "march report.csv", "INBOXD_FILE_ID": file.id,
        "INBOXD_FILE_RELATIVE_PATH": "x/march report.csv", "INBOXD_FILE_SHA256": file.sha256,
        "INBOXD_FILE_INBOX": "reports", "INBOXD_FILE_ATTEMPT": "2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "env", "is_set"),
    [
        (("sh", "-c", 'test -d "$INBOXD_FILE_OUTPUTS"'), ("INBOXD_FILE_OUTPUTS",), True),
        (("sh", "-c", 'test "$1" = "$INBOXD_FILE_OUTPUTS" -a -d "$1"', "sh", "{outputs}"), (), True),
        (("sh", "-c", 'test -d "$INBOXD_FILE_OUTPUTS"'), (), False),
    ],
)
def test_the_folder_for_outputs_is_made_for_those_that_ask_for_it(
    command: tuple[str, ...], env: tuple[str, ...], is_set: bool, path: Path
) -> None:
    assert (run(path, *command, env=env).verdict is Verdict.DONE) == is_set


def test_a_command_may_call_inboxd_itself(path: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(f'[inbox.drop]\nroot = "{tmp_path}"\n')

    call = run(
        path,
        sys.executable,
        "-m",
        "inboxd",
        "check",
        "--no-broker",
        "--no-folders",
        env=[f"INBOXD_SETTINGS={tmp_path}/settings.toml"],
    )

    assert call.verdict is Verdict.DONE, call.reason


@pytest.mark.parametrize(
    "mess", ["touch left", "mkdir -p a/b && touch a/b/c", "chmod 0 .", 'rmdir "$PWD"', 'mv "$PWD" "$PWD-x"', "true"]
)
def test_the_current_folder_is_empty_for_each_file_whatever_the_last_one_left(mess: str, path: Path, tmp_path: Path) -> None:
    for number in range(3):
        call = run(path, "sh", "-c", f'pwd -P >> "$1"; ls -A >> "$1"; {mess}', "sh", str(tmp_path / f"seen{number}"))

        assert call.verdict is Verdict.DONE, call.reason
        (folder,) = (tmp_path / f"seen{number}").read_text().splitlines()
        assert Path(folder).name.startswith("inboxd-work-")


@pytest.mark.parametrize(("stdin", "expected"), [("file", b"a,b\n1,2\n"), ("none", b"")])
def test_standard_input_is_the_file_or_empty(stdin: str, expected: bytes, path: Path, tmp_path: Path) -> None:
    code = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"

    run(path, *python(code), str(tmp_path / "seen"), stdin=stdin)

    assert (tmp_path / "seen").read_bytes() == expected


def test_on_another_host_the_path_is_that_of_a_copy_with_the_same_suffix(tmp_path: Path) -> None:
    part = FilePart(b"a.csv", "text/csv", 7, {"id": "1"}, b"content")
    file = InboxFile(part, Parcel(new_parcel_id(1.0), "drop", "there", b"/srv", (part,)), io.BytesIO(b"content"), None, 1)
    code = "import sys; open(sys.argv[1], 'w').write(sys.argv[2] + ' ' + open(sys.argv[2]).read())"
    handler = run_handler.load_handler(HandlerKeys(command=(*python(code), str(tmp_path / "seen"), "{path}")))

    run_handler.run_handler(handler, file, LIMIT, time.monotonic())

    copy, _, content = (tmp_path / "seen").read_text().partition(" ")
    assert (Path(copy).suffix, content) == (".csv", "content")
    assert not Path(copy).exists()


# exit codes


def exits(code: int, text: str = "") -> tuple[str, ...]:
    return ("sh", "-c", 'printf "$2" >&2; exit $1', "sh", str(code), text)


def test_exit_code_0_is_done(path: Path) -> None:
    call = run(path, "true")

    assert (call.verdict, call.result, call.reason) == (Verdict.DONE, {"exit_code": 0}, None)


def test_65_rejects_the_file_and_the_reason_is_what_the_command_said(path: Path) -> None:
    call = run(path, *exits(65, "reading\\n\\nthe total is missing\\n"))

    assert (call.verdict, call.reason) == (Verdict.REJECTED, "reading / the total is missing")


def test_a_rejection_without_a_word_names_the_program(path: Path) -> None:
    call = run(path, *exits(65))

    assert (call.verdict, call.reason) == (Verdict.REJECTED, "sh rejected the file without a word, with exit code 65")


@pytest.mark.parametrize("code", [1, 2, 75, 127, 255])
def test_other_codes_are_tried_again(code: int, path: Path) -> None:
    call = run(path, *exits(code, "no room\\n"))

    assert (call.verdict, call.reason) == (Verdict.RETRY_ISOLATED, f"sh ended with exit code {code}: no room")
    assert call.error is None  # no traceback of ours explains it


def test_the_settings_give_codes_their_meaning(path: Path) -> None:
    assert run(path, *exits(3), ok_codes=[0, 3]).result == {"exit_code": 3}
    assert run(path, *exits(2), reject_codes=[2]).verdict is Verdict.REJECTED
    assert run(path, *exits(65), reject_codes=[2]).verdict is Verdict.RETRY_ISOLATED
    assert run(path, *exits(0), ok_codes=[3]).verdict is Verdict.RETRY_ISOLATED


def test_a_command_that_is_killed_is_tried_again(path: Path) -> None:
    call = run(path, "sh", "-c", "kill -SEGV $$")

    assert (call.verdict, call.reason) == (Verdict.RETRY_ISOLATED, "sh ended by signal SIGSEGV")


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("/missing/program", "No such file or directory"),
        ("{tmp}/text", "Permission denied"),
        ("{tmp}/broken", "Exec format error"),
    ],
)
def test_a_program_that_cant_be_started_is_named(program: str, why: str, path: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "broken").write_bytes(b"\x7fELF")
    (tmp_path / "broken").chmod(0o755)
    name = program.replace("{tmp}", str(tmp_path))

    call = run(path, name)

    assert (call.verdict, call.reason) == (Verdict.RETRY_ISOLATED, f"{name} can't be started: {why}")


def test_what_is_printed_is_the_reason_if_standard_error_is_empty(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rejected = run(path, *python("print('no invoice', flush=True); raise SystemExit(65)"))
    both = run(path, *python("import sys; print('chatter', flush=True); sys.exit('the reason')"), reject_codes=[1])

    assert (rejected.verdict, rejected.reason) == (Verdict.REJECTED, "no invoice")
    assert (both.verdict, both.reason) == (Verdict.REJECTED, "the reason")
    assert capfd.readouterr() == ("no invoice\nchatter\n", "the reason\n")


def test_a_program_that_prints_much_to_both_is_read_to_its_end(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os\nfor n in range(200): os.write(1, b'o' * 9999 + b'\\n'); os.write(2, b'e' * 9999 + b'\\n')"

    assert run(path, *python(code)).verdict is Verdict.DONE
    assert tuple(map(len, capfd.readouterr())) == (2_000_000, 2_000_000)


def test_only_the_last_lines_are_kept_and_all_are_passed_on(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    call = run(path, "sh", "-c", "seq 100000 >&2; exit 1")

    assert call.reason == "sh ended with exit code 1: " + " / ".join(str(number) for number in range(99991, 100001))
    assert capfd.readouterr().err.count("\n") == 100_000


def test_what_is_not_text_does_no_harm(path: Path) -> None:
    call = run(path, "sh", "-c", r"printf '\033[31m\377\000 red\n' >&2; exit 1")

    assert call.reason is not None
    assert call.reason.isprintable()


# what it leaves running, its time and its limits


def test_a_flood_of_a_background_program_does_not_keep_a_command_running(path: Path) -> None:
    started = time.monotonic()

    call = run(path, "sh", "-c", "yes >&2 & exit 0")

    assert call.verdict is Verdict.DONE
    assert time.monotonic() - started < 60


def test_a_deep_tree_in_the_current_folder_is_removed(path: Path, tmp_path: Path) -> None:
    script = 'pwd > "$1"; for n in $(seq 1500); do mkdir d && cd -P d || exit 9; done'

    assert run(path, "sh", "-c", script, "sh", str(tmp_path / "folder")).verdict is Verdict.DONE

    assert not Path((tmp_path / "folder").read_text().strip()).exists()


def test_what_a_command_leaves_running_ends_with_it_and_is_not_waited_for(path: Path, tmp_path: Path) -> None:
    started = time.monotonic()

    call = run(path, "sh", "-c", 'sleep 300 & echo $! > "$1"', "sh", str(tmp_path / "pid"))

    assert call.verdict is Verdict.DONE
    assert time.monotonic() - started < 60
    eventually(lambda: not is_running(int((tmp_path / "pid").read_text())))


@pytest.fixture
def interrupted_after_a_second() -> Iterator[None]:
    def interrupt(_number: int, _frame: object) -> None:
        raise SoftTimeLimitExceeded

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.usefixtures("interrupted_after_a_second")
@pytest.mark.parametrize("ignores_term", [False, True])
def test_the_time_limit_ends_the_whole_family(ignores_term: bool, path: Path, tmp_path: Path) -> None:
    trap = "trap '' TERM; " if ignores_term else ""
    script = f'{trap}sh -c "{trap}sleep 300; sleep 300" & echo $! $$ > "$1"; echo begun >&2; wait; wait'

    call = run(path, "sh", "-c", script, "sh", str(tmp_path / "pids"))

    assert (call.verdict, call.timed_out) == (Verdict.RETRY_ISOLATED, True)
    assert call.reason == f"processing took longer than {LIMIT} s: begun"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    eventually(lambda: not any(map(is_running, pids)))


@pytest.mark.usefixtures("interrupted_after_a_second")
def test_an_interrupted_command_may_clean_up(path: Path, tmp_path: Path) -> None:
    run(path, "sh", "-c", 'trap "rm -f $1; exit 1" TERM; touch "$1"; sleep 300 & wait', "sh", str(tmp_path / "lock"))

    assert not (tmp_path / "lock").exists()


def test_nice_lowers_the_priority_and_memory_is_limited(path: Path) -> None:
    shown = "{os.getpriority(os.PRIO_PROCESS, 0)} {resource.getrlimit(resource.RLIMIT_AS)}"
    code = f"import os, resource, sys, time; time.sleep(0.2); sys.exit(f'{shown}')"

    call = run(path, *python(code), nice=7, memory_max="512MiB")

    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    assert call.reason is not None
    assert call.reason.endswith(f"exit code 1: {max(7, niceness)} ({512 << 20}, {512 << 20})")
    assert resource.getrlimit(resource.RLIMIT_AS) != (512 << 20, 512 << 20)


def test_a_script_beside_the_settings_is_run(tmp_path: Path, path: Path) -> None:
    script = tmp_path / "ocr.sh"
    script.write_text('#!/bin/sh\necho "$1" >&2; exit 65\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)

    assert run(path, str(script), "{stem}").reason == "march report"


def test_the_reason_names_the_file_and_not_its_place_in_claimed(path: Path) -> None:
    call = run(path, "sh", "-c", 'echo "cannot read $1" >&2; exit 65', "sh", "{path}")

    assert call.reason == "cannot read march report.csv"
