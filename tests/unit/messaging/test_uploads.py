"""The documented examples of Werkzeug, Django and Starlette, run with their own classes and with InboxFile."""

import asyncio
import io
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.files.storage import FileSystemStorage
from django.core.files.uploadedfile import TemporaryUploadedFile
from starlette.datastructures import Headers as StarletteHeaders
from starlette.datastructures import UploadFile
from werkzeug.datastructures import FileStorage, Headers
from werkzeug.utils import secure_filename

from inboxd import InboxFile

if not django_settings.configured:
    django_settings.configure()

TEXT = b"first line\nsecond line\nlast"
CONTENTS = [TEXT, b"", b"line\n" * 40_000]
"""Small, empty, and larger than what is read at once."""


@pytest.fixture(params=CONTENTS, ids=["small", "empty", "large"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "dropped").mkdir()
    path = tmp_path / "dropped" / "a report.txt"
    path.write_bytes(request.param)
    return path


def inbox_file(path: Path) -> InboxFile:
    return InboxFile.of(path, relative_path="2026/a report.txt", inbox="drop")


def outcome_of(view: Callable[[Any, Path], object], file: object, folder: Path) -> object:
    folder.mkdir()
    return view(file, folder), {path.name: path.read_bytes() for path in folder.iterdir()}


# Werkzeug


def type_of(path: Path) -> str:
    """Return the type that a browser would name, if it looked into the file as inboxd does."""
    return "text/plain" if path.stat().st_size else "application/x-empty"


def file_storage(path: Path) -> FileStorage:
    headers = Headers({"Content-Type": type_of(path), "Content-Length": str(path.stat().st_size)})
    return FileStorage(io.BytesIO(path.read_bytes()), path.name, "drop", headers=headers)


def flask_upload(file: Any, folder: Path) -> object:  # noqa: ANN401
    """Flask's documentation, "Uploading Files"."""
    if file.filename == "":
        return "No selected file"
    if file and "." in file.filename and file.filename.rsplit(".", 1)[1].lower() in {"txt", "pdf"}:
        filename = secure_filename(file.filename)
        file.save(folder / filename)
        return filename
    return None


def save_by_name(file: Any, folder: Path) -> None:  # noqa: ANN401
    file.save(str(folder) + "/" + file.filename)


def save_to_a_stream(file: Any, _folder: Path) -> bytes:  # noqa: ANN401
    destination = io.BytesIO()
    file.save(destination, buffer_size=7)
    file.close()
    return destination.getvalue()


def every_attribute(file: Any, _folder: Path) -> object:  # noqa: ANN401
    """Werkzeug's reference of FileStorage."""
    head = file.stream.read(3)
    file.seek(0)
    return (
        head, file.filename, file.name, file.content_type, file.content_length, file.mimetype, file.mimetype_params,
        file.headers["content-type"], file.headers.get("CONTENT-LENGTH", type=int), "Content-Type" in file.headers,
        file.headers.get("X-None", "none"), [*file], file.tell(), bool(file),
    )  # fmt: skip


@pytest.mark.parametrize(
    "view", [flask_upload, save_by_name, save_to_a_stream, every_attribute], ids=lambda view: view.__name__
)
def test_code_for_werkzeugs_file_storage_works_unchanged(view: Callable[..., object], path: Path, tmp_path: Path) -> None:
    with inbox_file(path) as file:
        own = outcome_of(view, file, tmp_path / "own")

    assert own == outcome_of(view, file_storage(path), tmp_path / "werkzeug")


def test_a_file_storage_made_of_an_inbox_file_has_its_type_and_length(path: Path) -> None:
    with inbox_file(path) as file:
        storage = FileStorage(stream=file.stream, headers=file.headers, filename=file.filename)  # type: ignore[arg-type]
        assert (storage.mimetype, storage.content_length) == (type_of(path), path.stat().st_size)
        assert storage.read() == path.read_bytes()
        typed = FileStorage(file.stream, file.filename, headers=file.headers, content_type="text/csv")  # type: ignore[arg-type]
        assert (typed.mimetype, Headers(file.headers)["content-length"]) == ("text/csv", str(path.stat().st_size))


# Django


def temporary_upload(path: Path) -> TemporaryUploadedFile:
    upload = TemporaryUploadedFile(path.name, type_of(path), path.stat().st_size, None, {})
    upload.write(path.read_bytes())
    upload.seek(0)
    return upload


def handle_uploaded_file(f: Any, folder: Path) -> None:  # noqa: ANN401
    """Django's documentation, "Basic file uploads"."""
    with (folder / "name.txt").open("wb+") as destination:
        for chunk in f.chunks():
            destination.write(chunk)


def read_by_size(f: Any, _folder: Path) -> object:  # noqa: ANN401
    """Django's reference of UploadedFile: read() only what is small."""
    content = b"".join(f.chunks(chunk_size=1000)) if f.multiple_chunks(1000) else f.read()
    return content, f.multiple_chunks(chunk_size=10)


def iterate_over_lines(uploadedfile: Any, _folder: Path) -> list[bytes]:  # noqa: ANN401
    lines = []
    for line in uploadedfile:
        lines.append(line)  # noqa: PERF402 - as the documentation has it
    return lines


def open_again(f: Any, _folder: Path) -> object:  # noqa: ANN401
    """Django's reference of File: open() as a context manager."""
    f.read()
    with f.open() as again:
        content = again.read()
    return content, f.closed


def uploads_attributes(f: Any, _folder: Path) -> object:  # noqa: ANN401
    content = f.file.read()
    f.seek(0)
    return f.name, f.size, len(f), f.content_type, f.content_type_extra, f.charset, bool(f), content, str(f), f.readable()


def move_to_storage(f: Any, folder: Path) -> object:  # noqa: ANN401
    """Django's documentation, "Managing files": a storage moves what has a temporary path."""
    storage = FileSystemStorage(folder)
    name = storage.save(f.name, f)
    with storage.open(name) as stored:
        return storage.size(name), stored.read()


def read_temporary_path(f: Any, _folder: Path) -> object:  # noqa: ANN401
    path = Path(f.temporary_file_path())
    return path.read_bytes(), path.suffix, f.temporary_file_path() == str(path), f.read()


DJANGO_VIEWS = [handle_uploaded_file, read_by_size, iterate_over_lines, open_again, uploads_attributes, move_to_storage]


@pytest.mark.parametrize("view", DJANGO_VIEWS, ids=lambda view: view.__name__)
def test_code_for_djangos_uploaded_file_works_unchanged(view: Callable[..., object], path: Path, tmp_path: Path) -> None:
    with inbox_file(path) as file:
        own = outcome_of(view, file.as_django(), tmp_path / "own")

    with temporary_upload(path) as upload:
        assert own == outcome_of(view, upload, tmp_path / "django")
    assert path.exists()


def test_code_for_djangos_temporary_upload_works_unchanged_and_leaves_no_copy(path: Path, tmp_path: Path) -> None:
    with inbox_file(path) as file, temporary_upload(path) as upload:
        own = outcome_of(read_temporary_path, file, tmp_path / "own")
        copy = Path(file.temporary_file_path())
        existed = copy.exists()
        assert own == outcome_of(read_temporary_path, upload, tmp_path / "django")

    assert (existed, copy.exists(), path.exists()) == (True, False, True)


@pytest.mark.parametrize("mode", ["w", "ab", "r+b", "rt"])
def test_a_file_is_not_opened_for_writing(mode: str, path: Path) -> None:
    with inbox_file(path) as file, pytest.raises(ValueError, match="only read"):
        file.as_django().open(mode)


def test_a_closed_file_is_not_opened_again(path: Path) -> None:
    with inbox_file(path) as file:
        pass

    with pytest.raises(ValueError, match=r"a report\.txt is closed"):
        file.open()


# Starlette


def starlette_upload(path: Path) -> UploadFile:
    headers = StarletteHeaders({"content-type": type_of(path), "content-length": str(path.stat().st_size)})
    return UploadFile(io.BytesIO(path.read_bytes()), size=path.stat().st_size, filename=path.name, headers=headers)


async def read_contents(upload_file: Any, _folder: Path) -> object:  # noqa: ANN401
    """Starlette's documentation, "Requests", and FastAPI's, "Request Files"."""
    contents = await upload_file.read()
    await upload_file.seek(0)
    head = await upload_file.read(5)
    await upload_file.close()
    return upload_file.filename, upload_file.size, upload_file.content_type, contents, head


async def copy_the_file(file: Any, folder: Path) -> object:  # noqa: ANN401
    with (folder / file.filename).open("wb") as buffer:
        shutil.copyfileobj(file.file, buffer)
    return file.headers["Content-Type"], file.headers.get("content-length"), "content-type" in file.headers


@pytest.mark.parametrize("view", [read_contents, copy_the_file], ids=lambda view: view.__name__)
def test_code_for_starlettes_upload_file_works_unchanged(
    view: Callable[..., Awaitable[object]], path: Path, tmp_path: Path
) -> None:
    def run(file: object, folder: Path) -> object:
        async def run_view() -> object:
            return await view(file, folder)

        return asyncio.run(run_view())

    with inbox_file(path) as file:
        own = outcome_of(run, file.as_starlette(), tmp_path / "own")

    assert own == outcome_of(run, starlette_upload(path), tmp_path / "starlette")


def test_an_upload_for_coroutines_has_the_attributes_of_its_file_and_is_not_written_to(path: Path) -> None:
    async def use() -> str:
        async with inbox_file(path).as_starlette() as upload:
            with pytest.raises(io.UnsupportedOperation, match=r"a report\.txt: write"):
                await upload.write(b"more")
            return f"{upload.relative_path} {upload.attempt} {upload!r}"

    assert asyncio.run(use()) == f"2026/a report.txt 1 <AsyncInboxFile '2026/a report.txt', {path.stat().st_size} bytes>"
