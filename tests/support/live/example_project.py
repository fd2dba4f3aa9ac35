"""The project of an example in examples/, with its own settings of inboxd, in an environment of its own without inboxd."""

import os
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from support.live.stand import Program, Stand, Table
from support.repository import REPOSITORY

NO_PATH = ("PYTHONPATH", "PYTHONHOME", "INBOXD_SETTINGS")


class ExampleProject:
    """A copy of an example's folder in a started stand, whose inbox has the example's rules; ``variables`` are files' names."""

    def __init__(
        self, make_stand: Callable[..., Stand], name: str, app: str, variables: Mapping[str, str], **rules: object
    ) -> None:
        example = REPOSITORY / "examples" / name
        settings = tomllib.loads((example / "settings.toml").read_text("utf-8"))
        ((self.inbox, inbox),) = settings.pop("inbox").items()
        del inbox["root"], settings["redis"]["url"]
        tables = {key: table for key, table in settings.items() if table}
        self.stand = make_stand({self.inbox: inbox | rules}, **tables).start()
        self.folder = self.stand.folder / "project"
        shutil.copytree(example, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.app = app
        self.python = REPOSITORY / "build" / "apps" / name / "bin" / "python"
        assert self.python.exists(), f"make build/apps/{name}/.installed"
        inherited = {key: value for key, value in self.stand.environment().items() if key not in NO_PATH}
        paths = {key: str(self.stand.folder / value) for key, value in variables.items()}
        self.environment = {**inherited, **paths, "BROKER_URL": f"redis+socket://{self.stand.socket}"}
        assert self.run("-c", "import importlib.util as u; print(u.find_spec('inboxd'))") == "None\n"

    def run(self, *arguments: str) -> str:
        """Run the project's Python, and return what it prints."""
        ended = subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def worker(self, name: str = "project", *, processes: int = 2, app: str = "") -> Program:
        """Start a worker as the example's README does."""
        argv = (
            str(self.python), "-m", "celery", f"--workdir={self.folder}", "-A", app or self.app, "worker",
            "-c", str(processes), "-n", f"{name}@%h", "-l", "info",
        )  # fmt: skip
        program = self.stand.program(
            name, argv, lambda start: " ready." in self.stand.programs[name].text(start), environment=self.environment
        )
        program.start()
        return program

    def pausing_worker(self) -> Program:
        """Start a worker whose task, once it has done its work, creates the file "worked" and never returns."""
        (self.folder / "pausing.py").write_text(PAUSING.format(app=self.app, task=self.rules["task"]), "utf-8")
        return self.worker("pausing", processes=1, app="pausing")

    @property
    def rules(self) -> Table:
        """The inbox's settings."""
        return self.stand.inboxes[self.inbox]

    def drop(self, name: str, content: bytes) -> None:
        """Drop a file."""
        self.stand.drop(os.fsencode(name), content, self.inbox)

    def wait(self) -> None:
        """Wait until every dropped file is filed."""
        self.stand.wait_until(lambda: self.stand.has_no_pending_files(self.inbox))

    def names(self, folder: str) -> set[str]:
        """Return the names in done/ or failed/."""
        return {os.fsdecode(name) for name in self.stand.names(folder, self.inbox)}

    def note(self, name: str) -> str:
        """Return a failed file's note."""
        return self.stand.note(os.fsencode(name), self.inbox)

    def double_message(self) -> None:
        """Put each message that waits for the project's worker into its queue once more, as it is."""
        self.stand.wait_until(lambda: self.stand.client.llen("celery"))
        for message in self.stand.client.lrange("celery", 0, -1):  # type: ignore[union-attr]
            self.stand.client.rpush("celery", message)


def kill_with_children(program: Program) -> None:
    """Kill a program and its processes at once, as a power cut does: none of them can send an answer."""
    os.killpg(program.pid, signal.SIGKILL)
    program.wait(45)


def copies(folder: Path) -> list[Path]:
    """Return all files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


PAUSING = """
import time
from pathlib import Path

import {app} as project

app = getattr(project, "app", None) or project.celery_app
app.loader.import_default_modules()
task = app.tasks["{task}"]
run = task.run


def run_and_pause(*args, **kwargs):
    result = run(*args, **kwargs)
    Path(__file__).with_name("worked").touch()
    time.sleep(600)
    return result


task.run = run_and_pause
"""
