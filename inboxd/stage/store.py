"""The store of `[stage]`: any that fsspec knows. A copy lies at URL/NAMESPACE/HOST/PARCEL/TOKEN."""

import contextlib
import hashlib
import importlib.util
import io
import re
import secrets
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from celery.exceptions import SoftTimeLimitExceeded

from inboxd.config.secret_files import find_secret_file
from inboxd.config.tables import Stage
from inboxd.errors import Finding, SettingsError, StageUnavailable
from inboxd.fs.bounded import run_within
from inboxd.logs.text import escape
from inboxd.stage.staged_copy import StagedCopy, block_bytes_of
from inboxd.stage.staged_stream import BUFFER_BYTES, StagedStream

CREDENTIAL = "stage.secret"
"""The name of the credential with the secret options."""
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "sftp": "sshfs", "ssh": "sshfs", "file": "fsspec"}
"""The package of each store's driver, by the scheme of its URL; those of others are the user's own."""
DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"use_listings_cache": False},
    "s3a": {"use_listings_cache": False},
    # asyncssh's own default, which is ~/.ssh/known_hosts; without it the driver accepts the key of any host
    "sftp": {"known_hosts": ()},
    "ssh": {"known_hosts": ()},
}
PROBE = "inboxd-probe-"
STALL_SECONDS, GIVE_UP_SECONDS = 30.0, 5.0
"""Maximum time of one step, such as the upload of a block; a store that takes longer counts as unavailable."""
SECRET_CHARS_MIN = 4

_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class SupportsRead(Protocol):
    """A binary stream."""

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes, b"" at the end."""
        ...


class Store:
    """The store. It connects when it is first used. Methods raise StageUnavailable, whose text names the URL."""

    def __init__(self, stage: Stage, namespace: str) -> None:
        """``namespace`` is that of the installation in Redis, "" if it has none."""
        self._stage = stage
        self._namespace = namespace or "inboxd"
        self._connection: Any = None
        self._top = ""
        self._secrets: list[str] = []

    def upload(self, host: str, parcel: str, stream: SupportsRead, size: int, progress: Callable[[], None]) -> StagedCopy:
        """Copy a file into the store. ``progress`` is called before each step, which takes at most STALL_SECONDS.

        Raises what reading the stream or ``progress`` raises, and ValueError if the file has not ``size`` bytes.
        """
        token, block_bytes = secrets.token_hex(8), block_bytes_of(size)
        digests, whole, unread = [], hashlib.sha256(), size
        progress()
        # If we die here: a part of a copy, or one that nobody knows of; a sweep removes it once the parcel is filed.
        file = self._run(lambda driver: self._create(driver, self._path(host, parcel, token), block_bytes))
        try:
            while unread:
                block = _read_exactly(stream, min(block_bytes, unread))
                progress()
                self._run(lambda _driver, block=block: file.write(block))  # type: ignore[misc]
                digests.append(hashlib.sha256(block).digest())
                whole.update(block)
                unread -= len(block)
            progress()
            self._run(lambda _driver: file.close())
        except Exception:
            self._give_up(file, self._path(host, parcel, token))
            raise
        return StagedCopy(token, block_bytes, b"".join(digests), whole.hexdigest())

    def open(self, host: str, parcel: str, copy: StagedCopy, size: int) -> tuple[StagedStream, io.BufferedReader]:
        """Return a stream over a copy, which connects at the first read, and a buffered reader of it."""

        def read(start: int, size: int) -> bytes:
            try:
                return self._run(lambda driver: self._read_range(driver, self._path(host, parcel, copy.token), start, size))
            except StageUnavailable as error:
                if isinstance(error.__cause__, TimeoutError):
                    raise
                # a connection that was kept may be dead
                return self._run(lambda driver: self._read_range(driver, self._path(host, parcel, copy.token), start, size))

        stream = StagedStream(copy, size, read)
        return stream, io.BufferedReader(stream, BUFFER_BYTES)

    def list_parcels(self, host: str) -> list[str]:
        """Return the parcels of a host with copies in the store."""

        def list_names(driver: Any) -> list[str]:  # noqa: ANN401
            with contextlib.suppress(FileNotFoundError):
                return [str(name).rstrip("/").rsplit("/", 1)[-1] for name in driver.ls(self._path(host), detail=False)]
            return []

        return self._run(list_names)

    def remove(self, host: str, parcel: str) -> None:
        """Remove the copies of a parcel; no-op if there are none."""

        def remove(driver: Any) -> None:  # noqa: ANN401
            with contextlib.suppress(FileNotFoundError):
                driver.rm(self._path(host, parcel), recursive=True)

        self._run(remove)

    def probe(self, host: str) -> None:
        """Write a small copy, read it and remove it."""
        name, content = PROBE + secrets.token_hex(8), secrets.token_bytes(16)
        try:
            copy = self.upload(host, name, io.BytesIO(content), len(content), lambda: None)
            _, reader = self.open(host, name, copy, len(content))
            with reader:
                reader.read()
        except OSError as error:
            raise StageUnavailable(str(error)) from error
        finally:
            self.remove(host, name)

    def _run(self, action: Callable[[Any], _T]) -> _T:
        """Return what ``action`` makes of the driver: in a thread, since a store that hangs can't be interrupted.

        Raises StageUnavailable for what the driver raises, or after STALL_SECONDS; the next call connects anew.
        """
        try:
            return run_within(lambda: action(self._connect()), STALL_SECONDS)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # each driver has its own exceptions
            self._connection = None
            if isinstance(error, StageUnavailable):
                raise
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise StageUnavailable(f"{self._stage.url}: {escape(self._mask(why))}") from error

    def _connect(self) -> Any:  # noqa: ANN401 - of a library without types
        if self._connection is None:
            import fsspec  # noqa: PLC0415 - needs the extra inboxd[stage]

            secret = read_secret_options(self._stage.secret_file) if self._stage.secret_file else {}
            self._secrets = [*_texts(secret)]
            options = {**DEFAULT_OPTIONS.get(self._stage.scheme, {}), **self._stage.options, **secret}
            self._connection, top = fsspec.core.url_to_fs(self._stage.url, skip_instance_cache=True, **options)
            self._top = top.rstrip("/")
        return self._connection

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _path(self, host: str, *names: str) -> str:
        """Return a path in the store. A host's name is that of its folder, or a hash of it if it has odd characters."""
        folder = host if _NAME.fullmatch(host) else hashlib.sha256(host.encode("utf-8", "replace")).hexdigest()[:32]
        return "/".join((self._top, self._namespace, folder, *names))

    def _create(self, driver: Any, path: str, block_bytes: int) -> Any:  # noqa: ANN401
        options = {"block_size": block_bytes} if self._is_s3 else {}
        try:
            return driver.open(path, "wb", **options)
        except FileNotFoundError:  # a store with folders; one that is missing may be a mount that is away
            if not driver.isdir(self._top):
                raise StageUnavailable(f"{self._stage.url}: there is no such folder: make it, or mount it") from None
            driver.makedirs(path.rpartition("/")[0], exist_ok=True)
            return driver.open(path, "wb", **options)

    def _give_up(self, file: Any, path: str) -> None:  # noqa: ANN401
        """Remove what was uploaded of a file, as far as the store lets us: it may be full, or away."""

        def give_up() -> None:
            try:
                file.discard()  # an upload in parts, which a store would keep
            except Exception:  # noqa: BLE001 - of the drivers without such
                file.close()

        with contextlib.suppress(Exception):
            run_within(give_up, GIVE_UP_SECONDS)
        with contextlib.suppress(Exception):
            file.closed = True  # else its finalizer sends the rest
        with contextlib.suppress(Exception):
            run_within(lambda: self._connect().rm_file(path), GIVE_UP_SECONDS)

    def _read_range(self, driver: Any, path: str, start: int, size: int) -> bytes:  # noqa: ANN401
        with driver.open(path, "rb", **({"cache_type": "none"} if self._is_s3 else {})) as file:
            file.seek(start)
            return _read_exactly(file, size)

    @property
    def _is_s3(self) -> bool:
        return self._stage.scheme in ("s3", "s3a")


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in nested options."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
    elif isinstance(value, str) and len(value) >= SECRET_CHARS_MIN:
        yield value


def _read_exactly(stream: SupportsRead, size: int) -> bytes:
    """Return the next ``size`` bytes. Raises ValueError if the stream ends before."""
    parts, unread = [], size
    while unread and (part := stream.read(unread)):
        parts.append(part)
        unread -= len(part)
    if unread:
        raise ValueError(f"it ends {unread} bytes early")
    return b"".join(parts)


def read_secret_options(path: str) -> dict[str, Any]:
    """Return the options in a TOML file, or in the credential in its place. Raises SettingsError, which does not show them."""
    try:
        return tomllib.loads(find_secret_file(path, CREDENTIAL).read_text("utf-8"))
    except OSError as error:
        problem, is_private = f"can't be read: {error.strerror}", isinstance(error, PermissionError)
        remedy = "make the file readable for the user of inboxd; as a service, root alone needs to read it"
        raise SettingsError([Finding(path, problem, remedy, blocks=not is_private)]) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise SettingsError([Finding(path, "is not TOML", 'write lines such as: secret = "…"')]) from None


def find_stage_problems(stage: Stage) -> Iterator[Finding]:
    """Yield what keeps this program from using the store: a driver that is not installed, a file that can't be read."""
    package = PACKAGES.get(stage.scheme, "fsspec")
    if stage.url and importlib.util.find_spec(package) is None:
        remedy = "pip install 'inboxd[stage]'; as services: sudo deploy/install.sh --stage"
        yield Finding("stage.url", f"needs the package {package}, which is not installed", remedy)
    if stage.url and stage.secret_file:
        try:
            read_secret_options(stage.secret_file)
        except SettingsError as error:
            yield from error.findings


def stage_folder(stage: Stage) -> Path | None:
    """Return the folder of a store that is one; None if it is anything else."""
    return Path(stage.url.removeprefix("file://")) if stage.scheme == "file" else None
