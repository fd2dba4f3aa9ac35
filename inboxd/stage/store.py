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
from typing import Any, Protocol

from celery.exceptions import SoftTimeLimitExceeded

from inboxd.config.secret_files import find_secret_file
from inboxd.config.tables import Stage
from inboxd.errors import BrokerUnavailable, Finding, SettingsError, StageUnavailable
from inboxd.logs.text import escape
from inboxd.stage.staged_copy import StagedCopy, block_bytes_of
from inboxd.stage.staged_stream import BUFFER_BYTES, ReadRange, StagedStream

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

    def upload(self, host: str, parcel: str, stream: SupportsRead, size: int, progress: Callable[[], None]) -> StagedCopy:
        """Copy a file into the store. ``progress`` is called before each block.

        Raises OSError if the file can't be read, ValueError if it has not ``size`` bytes.
        """
        token, block_bytes = secrets.token_hex(8), block_bytes_of(size)
        digests, whole, unread = [], hashlib.sha256(), size
        # If we die here: a part of a copy, or one that nobody knows of; a sweep removes it once the parcel is filed.
        with self._faults(), self._created(self._path(host, parcel, token), block_bytes) as target:
            while unread:
                with _own_errors():
                    progress()
                    block = _read_exactly(stream, min(block_bytes, unread))
                target.write(block)
                digests.append(hashlib.sha256(block).digest())
                whole.update(block)
                unread -= len(block)
            with _own_errors():
                progress()
        return StagedCopy(token, block_bytes, b"".join(digests), whole.hexdigest())

    def open(self, host: str, parcel: str, copy: StagedCopy, size: int) -> tuple[StagedStream, io.BufferedReader]:
        """Return a stream over a copy, which connects at the first read, and a buffered reader of it."""
        stream = StagedStream(copy, size, self._range_reader(self._path(host, parcel, copy.token)))
        return stream, io.BufferedReader(stream, BUFFER_BYTES)

    def list_parcels(self, host: str) -> list[str]:
        """Return the parcels of a host with copies in the store."""
        with self._faults():
            try:
                names = self._connect().ls(self._path(host), detail=False)
            except FileNotFoundError:
                return []
            return [str(name).rstrip("/").rsplit("/", 1)[-1] for name in names]

    def remove(self, host: str, parcel: str) -> None:
        """Remove the copies of a parcel; no-op if there are none."""
        with self._faults(), contextlib.suppress(FileNotFoundError):
            self._connect().rm(self._path(host, parcel), recursive=True)

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

    def _path(self, host: str, *names: str) -> str:
        """Return a path in the store. A host's name is that of its folder, or a hash of it if it has odd characters."""
        self._connect()
        folder = host if _NAME.fullmatch(host) else hashlib.sha256(host.encode()).hexdigest()[:32]
        return "/".join((self._top, self._namespace, folder, *names))

    def _connect(self) -> Any:  # noqa: ANN401 - of a library without types
        if self._connection is None:
            with self._faults():
                import fsspec  # noqa: PLC0415 - needs the extra inboxd[stage]

                options = {**DEFAULT_OPTIONS.get(self._stage.scheme, {}), **self._stage.options, **self._secret_options()}
                self._connection, top = fsspec.core.url_to_fs(self._stage.url, skip_instance_cache=True, **options)
                self._top = top.rstrip("/")
        return self._connection

    def _secret_options(self) -> dict[str, Any]:
        return read_secret_options(self._stage.secret_file) if self._stage.secret_file else {}

    @contextlib.contextmanager
    def _created(self, path: str, block_bytes: int) -> Iterator[Any]:
        """Yield a new file that is complete after the block, and is given up if that raises."""
        file = self._create(path, block_bytes)
        try:
            yield file
            file.close()
        except BaseException:
            with contextlib.suppress(Exception):  # an upload in parts, which a store would keep
                file.discard()
            with contextlib.suppress(AttributeError):
                file.closed = True  # else its finalizer sends the rest
            raise

    def _create(self, path: str, block_bytes: int) -> Any:  # noqa: ANN401 - a file of the library
        options = {"block_size": block_bytes} if self._stage.scheme in ("s3", "s3a") else {}
        try:
            return self._connect().open(path, "wb", **options)
        except FileNotFoundError:  # a store with folders; one that is missing may be a mount that is away
            if not self._connect().isdir(self._top):
                raise StageUnavailable(f"{self._stage.url}: there is no such folder: make it, or mount it") from None
            self._connect().makedirs(path.rpartition("/")[0], exist_ok=True)
            return self._connect().open(path, "wb", **options)

    def _range_reader(self, path: str) -> ReadRange:
        def read(start: int, size: int) -> bytes:
            try:
                return self._read_range(path, start, size)
            except StageUnavailable:  # a connection that was kept may be dead
                return self._read_range(path, start, size)

        return read

    def _read_range(self, path: str, start: int, size: int) -> bytes:
        options = {"cache_type": "none"} if self._stage.scheme in ("s3", "s3a") else {}
        with self._faults(), self._connect().open(path, "rb", **options) as file:
            file.seek(start)
            return _read_exactly(file, size)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Raise what the driver raises as StageUnavailable, and connect anew the next time."""
        try:
            yield
        except (StageUnavailable, SoftTimeLimitExceeded):
            self._connection = None
            raise
        except _OwnError as error:
            raise error.args[0] from None
        except Exception as error:  # each driver has its own exceptions
            self._connection = None
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise StageUnavailable(f"{self._stage.url}: {escape(why)}") from error


class _OwnError(Exception):
    """An error of what is uploaded, and not of the store."""


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, BrokerUnavailable) as error:
        raise _OwnError(error) from error


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
