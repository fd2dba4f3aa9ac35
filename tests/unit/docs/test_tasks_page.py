"""The project of docs/tasks.md takes what is really sent."""

from pathlib import Path
from typing import Any

import pytest
from support.documents import find_blocks, name_files, read_page

from inboxd.config.loading import load_settings
from inboxd.messaging.other_app.task_message import file_to_dict
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import new_parcel_id

FILES = name_files(find_blocks(read_page("tasks.md")))


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_the_task_reads_the_file(serializer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project: dict[str, Any] = {}
    exec(compile(FILES["tasks.py"], "tasks.py", "exec"), project)
    parcel = new_parcel_id()
    path = tmp_path / "claimed" / parcel / "a.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"four")
    part = FilePart(b"a.txt", "text/plain", 4, {"id": "1"}, b"four")

    project["book"](
        file=file_to_dict(part, Parcel(parcel, "books", "here", bytes(tmp_path), (part,)), attempt=1, serializer=serializer)
    )

    assert capsys.readouterr().out == "a.txt text/plain 4\n"


def test_the_settings_are_valid_and_name_the_projects_task(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(FILES["settings.toml"].replace("/srv/drop", str(tmp_path)), "utf-8")

    inbox = load_settings(tmp_path / "settings.toml").inbox["books"]

    assert f'name="{inbox.task}"' in FILES["tasks.py"]
    assert inbox.answer_seconds == 600
