"""examples/unzip: members go to the next inbox; archives that would do harm are rejected as a whole."""

import importlib.util
import io
import os
import stat
import struct
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from support.examples.example_stand import ExampleStand
from support.live.stand import names
from support.repository import REPOSITORY

from inboxd import InboxFile, RejectFile
from inboxd.intake.temporary_names import FOLDERS, TEMPORARY_NAMES

pytestmark = pytest.mark.examples

MakeExample = Callable[..., ExampleStand]
Member = tuple[str, bytes] | tuple[zipfile.ZipInfo, bytes]


def make_zip(*members: Member, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=UserWarning), zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info


def lying_about_its_size(content: bytes) -> bytes:
    """Return an archive whose member says, in both headers, that it has ten bytes."""
    archive = make_zip(("zeros", content))
    return archive.replace(struct.pack("<L", len(content)), struct.pack("<L", 10))


def encrypted(folder: Path) -> bytes:
    (folder / "secret.txt").write_text("secret")
    subprocess.run(("zip", "-q", "-P", "password", "secret.zip", "secret.txt"), cwd=folder, check=True)
    return (folder / "secret.zip").read_bytes()


def damaged(compression: int) -> bytes:
    archive = bytearray(make_zip(("a.txt", os.urandom(2000)), compression=compression))
    archive[300:320] = bytes(20)
    return bytes(archive)


GOOD = make_zip(
    ("a.txt", b"first"), ("a.txt", b"second"), ("a (2).txt", b"third"), ("docs/", b""), ("docs/b.txt", b"fourth"),
    ("docs\\c.txt", b"fifth"), (".profile", b"sixth"), ("empty/", b""), ("x.tmp", b"seventh"), ("é ü.txt", b"eighth"),
    ("__MACOSX/._a.txt", b"icon"), (special("folder", stat.S_IFDIR), b""), ("./d/./e.txt", b"ninth"),
)  # fmt: skip
UNPACKED = {
    b"a.txt": b"first", b"a (2).txt": b"second", b"a (2) (2).txt": b"third", b"docs/b.txt": b"fourth", b"docs/c.txt": b"fifth",
    b"_.profile": b"sixth", b"x.tmp_": b"seventh", "é ü.txt".encode(): b"eighth", b"d/e.txt": b"ninth",
}  # fmt: skip


def name_like(pattern: str) -> str:
    return pattern.replace("[#]", "#").replace("[px]", "p").replace("*", "x")


IGNORED_FILES = {name_like(row.pattern) for row in TEMPORARY_NAMES} | {".inboxd-x"}
IGNORED_FOLDERS = {name_like(row.pattern) for row in FOLDERS} - {"__MACOSX"}
IGNORED = make_zip(
    *((name, name.encode()) for name in sorted(IGNORED_FILES)),
    *((f"folders/{name}/a", name.encode()) for name in sorted(IGNORED_FOLDERS)),
)
"""An archive of all names that inboxes ignore."""

HARMFUL = {
    "up.zip": (make_zip(("a.txt", b"x"), ("../evil.txt", b"x")), "leads out of the archive"),
    "inside.zip": (make_zip(("a/../../evil.txt", b"x")), "leads out of the archive"),
    "backslash.zip": (make_zip(("..\\evil.txt", b"x")), "leads out of the archive"),
    "nameless.zip": (make_zip((".", b"x")), "leads out of the archive"),
    "absolute.zip": (make_zip(("/etc/evil", b"x")), "is an absolute path"),
    "drive.zip": (make_zip(("C:\\evil.txt", b"x")), "is an absolute path"),
    "link.zip": (make_zip((special("passwd", stat.S_IFLNK), b"/etc/passwd")), "is a link or a special file"),
    "pipe.zip": (make_zip((special("pipe", stat.S_IFIFO), b"")), "is a link or a special file"),
    "device.zip": (make_zip((special("disk", stat.S_IFBLK), b"")), "is a link or a special file"),
    "both.zip": (make_zip(("a", b"x"), ("a/b", b"x")), "is a file and a folder"),
    "long.zip": (make_zip(("n" * 300, b"x")), "is too long"),
    "no.zip": (b"this is a text", "This is no zip archive"),
    "short.zip": (GOOD[:-30], "This is no zip archive"),
    "many.zip": (make_zip(*((str(number), b"") for number in range(1001))), "has 1001 members; at most 1000"),
    "bomb.zip": (make_zip(("zeros", bytes(20_000_000))), "more than 200 times larger"),
    "bombs.zip": (make_zip(*((f"zeros{number}", bytes(3_000_000)) for number in range(4))), "more than 200 times larger"),
    "damaged.zip": (damaged(zipfile.ZIP_DEFLATED), "This is no zip archive that can be unpacked"),
    "bzip2.zip": (damaged(zipfile.ZIP_BZIP2), "This is no zip archive that can be unpacked"),
    "lzma.zip": (damaged(zipfile.ZIP_LZMA), "This is no zip archive that can be unpacked"),
    "stored.zip": (damaged(zipfile.ZIP_STORED), "This is no zip archive that can be unpacked"),
}


def names_beside(stand: ExampleStand, folder: Path) -> set[bytes]:
    """Return the files below a folder but those in the stand's, which come and go."""
    return {name for name in names(folder) if not name.startswith(os.fsencode(stand.folder.relative_to(folder)) + b"/")}


def test_members_go_to_the_next_inbox_and_harmful_archives_are_rejected(make_example: MakeExample, tmp_path: Path) -> None:
    harmful = {**HARMFUL, "secret.zip": (encrypted(tmp_path), "The archive is encrypted")}
    stand = make_example("unzip").start()
    before = names_beside(stand, tmp_path)

    stand.drop(b"2026/good.zip", GOOD, "archives")
    for name, (content, _) in harmful.items():
        stand.drop(name.encode(), content, "archives")
    stand.drop(b"ignored.zip", IGNORED, "archives")
    stand.wait_filed("archives", done=2, failed=len(harmful))
    stand.wait_filed("unpacked", done=len(UNPACKED) + len(IGNORED_FILES) + len(IGNORED_FOLDERS))

    unpacked = {name: stand.path("done", name, "unpacked").read_bytes() for name in stand.names("done", "unpacked")}
    ignored = sorted(unpacked.pop(name) for name in [*unpacked] if name.startswith(b"ignored/"))
    assert ignored == sorted(name.encode() for name in (*IGNORED_FILES, *IGNORED_FOLDERS))
    assert unpacked == {b"2026/good/" + name: content for name, content in UNPACKED.items()}
    for name, (_, reason) in harmful.items():
        assert reason in stand.reason(name, "archives"), name
    assert not stand.log_events("file_retried")
    assert names_beside(stand, tmp_path) == before


@pytest.fixture
def unzip() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unzip", REPOSITORY / "examples" / "unzip" / "unzip.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unpack(unzip: ModuleType, folder: Path, content: bytes) -> tuple[str, list[int]]:
    """Return why an archive is rejected, "" if it is not, and the sizes of what was written until then."""
    (folder / "a.zip").write_bytes(content)
    file, reason = InboxFile.of(folder / "a.zip"), ""
    with file:
        try:
            unzip.unpack(file)
        except RejectFile as error:
            reason = str(error)
        file.close_outputs(is_done=False)
        return reason, sorted(path.stat().st_size for path in file.outputs_folder.rglob("*") if path.is_file())


def test_the_bytes_are_counted_while_they_are_written(
    unzip: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unzip, "UNPACKED_BYTES_MAX", 3_000_000)
    content = os.urandom(2_000_000)

    one = unpack(unzip, tmp_path, make_zip(("a", content)))
    reason, sizes = unpack(unzip, tmp_path, make_zip(("a", content), ("b", content)))

    assert one == ("", [2_000_000])
    assert reason == "The archive contains more than 3000000 bytes."
    assert sum(sizes) <= 3_000_000


def test_an_archive_that_lies_about_its_size_is_rejected(unzip: ModuleType, tmp_path: Path) -> None:
    reason, sizes = unpack(unzip, tmp_path, lying_about_its_size(bytes(50_000_000)))

    assert "Bad CRC" in reason
    assert sum(sizes) <= 10
