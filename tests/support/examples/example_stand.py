"""A stand that runs a copy of a folder of examples/, with the example's own settings and shorter times."""

import copy
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

from support.live.stand import DEFAULTS, Stand, Table
from support.repository import REPOSITORY

NOT_SHORTENED = {"redis": {"visibility_timeout_seconds"}, "defaults": {"handler", "time_limit_seconds"}}
"""Settings of the stand that an example would not have."""


class ExampleStand(Stand):
    """The programs and folders of one example. ``adapt`` maps a text of its settings to what a user would write there."""

    def __init__(
        self, folder: Path, example: str, adapt: Mapping[str, str] | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        shutil.copytree(REPOSITORY / "examples" / example, folder, dirs_exist_ok=True)
        text = (folder / "settings.toml").read_text("utf-8")
        for old, new in (adapt or {}).items():
            assert text.count(old) == 1, f"{old!r} in the settings of {example}"
            text = text.replace(old, new)
        self._example: Table = tomllib.loads(text)
        self._variables = variables or {}
        super().__init__(folder, self._example["inbox"])

    def tables(self) -> Table:
        """Return the example's settings, completed by the stand's."""
        tables: Table = {"host": "stand", **copy.deepcopy(DEFAULTS)}
        for table, keys in NOT_SHORTENED.items():
            for key in keys:
                del tables[table][key]
        for name, table in self._example.items():
            tables[name] = {**tables.get(name, {}), **table}
        tables["redis"]["url"] = self.url
        return tables

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment variables of the stand's programs."""
        return super().environment(**self._variables, **extra)

    def root(self, inbox: str = "") -> Path:
        """Return an inbox's root, which the example names."""
        return self.folder / self.inboxes[inbox]["root"]

    def outputs(self, inbox: str) -> dict[str, bytes]:
        """Return the path below out/ and the content of each output."""
        top = self.root(inbox) / "out"
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}

    def wait_filed(self, inbox: str, done: int, failed: int = 0) -> None:
        """Wait until so many files are in done/ and failed/, each of these with its note, and none is in flight."""
        self.wait_until(
            lambda: (
                len(self.names("done", inbox)) == done
                and len(self.names("failed", inbox)) == 2 * failed
                and self.has_no_pending_files(inbox)
            ),
            awaited=f"{done} files done and {failed} failed",
        )

    def reason(self, name: str, inbox: str) -> str:
        """Return the line of a failed file's note with the reason."""
        note = self.note(name.encode(), inbox)
        return next(line for line in note.splitlines() if line.startswith("Reason: "))
