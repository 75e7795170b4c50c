"""Addresses: a folder on this machine, or a place on an object store, which the environment has the credentials of."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from pyarrow import fs

from mlplatform.errors import ConfigError, StorageError

# By scheme, what the project's optional packages for it are called.
OBJECT_STORES = {"s3": "aws", "abfss": "azure", "gs": "gcp"}
UNITY = "uc"  # no store: a catalog of tables

# What to do, by the number of the error.
_FULL = "The disk is full. Nothing is lost: make room, and run the same command again"
_RIGHTS = "Its rights or its mount forbid it. Nothing is lost: fix them, and run the same command again"
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _RIGHTS),
}


@dataclass(frozen=True, order=True)
class Remote:
    """A place on an object store, with as much of `Path` as is needed here. What was listed has a size and a time."""

    address: str
    size: int | None = None
    modified: datetime | None = None  # naive UTC

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.address}/{name}")

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    @property
    def parent(self) -> "Remote":
        return Remote(self.address.rpartition("/")[0])

    def is_file(self) -> bool:
        return self.size is not None

    def is_dir(self) -> bool:
        """Whether it is no file: an object store knows no folders, so any that is not there is an empty one."""
        return self.size is None

    def iterdir(self) -> "Iterator[Remote]":
        """What is there, as far as the next slash."""
        folders = set()
        for file in self.files():
            name, deeper, _ = str(file)[len(self.address) + 1 :].partition("/")
            if not deeper:
                yield file
            elif name not in folders:
                folders.add(name)
                yield self / name

    def files(self) -> "list[Remote]":
        """All files below."""
        with told(self.address):
            system, path = filesystem(self.address)
            selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
            return [self._found(info, path) for info in system.get_file_info(selector) if info.is_file]

    def again(self) -> "Remote":
        """The file as it is by now."""
        with told(self.address):
            system, path = filesystem(self.address)
            return self._found(system.get_file_info(path), path)

    def copy_to(self, target: Path) -> None:
        """Copy the file to one on this machine."""
        with told(self.address):
            system, path = filesystem(self.address)
            fs.copy_files(path, str(target), source_filesystem=system, destination_filesystem=fs.LocalFileSystem())

    def copy_from(self, source: Path) -> None:
        """Make the file of one on this machine: it is there as a whole, or not at all."""
        with told(self.address):
            system, path = filesystem(self.address)
            fs.copy_files(str(source), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=system)

    def _found(self, info: fs.FileInfo, path: str) -> "Remote":
        time = info.mtime.astimezone(UTC).replace(tzinfo=None) if info.is_file else None
        return Remote(self.address + info.path[len(path) :], info.size if info.is_file else None, time)


Place: TypeAlias = Path | Remote


def place(folder: Path, address: str, setting: str) -> Place:
    """What an address means, from `folder`. Raises ConfigError where no tables or deliveries can be."""
    kind = scheme(address)
    if kind and kind not in OBJECT_STORES and (kind, setting) != (UNITY, "lakehouse.root"):
        known = ", ".join(f"{name}://" for name in OBJECT_STORES)
        raise ConfigError(f"{setting}: {kind}:// is not supported (choose from: a folder, {known})")
    if kind:
        found, shown = address.rstrip("/"), address
        host = urlsplit(address).netloc
        if ":" in host or ("@" in host and kind != "abfss") or "?" in address:
            raise ConfigError(
                f"{setting}: an address holds no credentials: they belong into the environment, never into conf/"
            )
    else:
        found = shown = str((folder / address).absolute())
    refused = re.search(r"[\[\]|^\\'\x00-\x1f]|%[0-9A-Fa-f]{2}", shown)
    if refused:
        raise ConfigError(f"{setting}: {shown}: Delta and MLflow store nothing below {refused[0]!r}: rename or move it")
    return Remote(found) if kind else folder / address


def read(place: Place) -> bytes | None:
    """What a small file holds; None where there is none."""
    with told(str(place)):
        system, path = filesystem(place)
        if not system.get_file_info(path).is_file:
            return None
        with system.open_input_stream(path, compression=None) as file:
            return bytes(file.read())


def put(place: Place, content: bytes, *, keep_time: bool = False) -> None:
    """Put a file in place, whole or not at all; with `keep_time`, as old as the one that is there.

    An object's time is the store's.
    """
    with told(str(place)):
        if isinstance(place, Remote):
            with temporary() as folder:
                copy = Path(folder, "content")
                copy.write_bytes(content)
                place.copy_from(copy)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() and not place.is_file():  # a pipe, say
            place.write_bytes(content)
            return
        place = place.resolve()  # a link stays; what it leads to is replaced
        unfinished = place.with_name(f".{place.name}.unfinished")
        unfinished.write_bytes(content)
        if keep_time:
            stat = place.stat()
            os.utime(unfinished, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with suppress(OSError):  # a new file has no rights to keep, nor have those of some mounts
            shutil.copymode(place, unfinished)
        unfinished.replace(place)


def temporary() -> "tempfile.TemporaryDirectory[str]":
    """A new folder for what goes with this object."""
    with told("temporary files", "Let TMPDIR name a folder that has room, and run the same command again"):
        return tempfile.TemporaryDirectory(prefix="mlplatform-")


def scheme(address: str) -> str:
    """s3, for s3://bucket; nothing for a folder."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", address)
    return match[1].lower() if match else ""


def extra_missing(address: str, package: str) -> StorageError:
    """What to raise where an optional package is missing."""
    extra = OBJECT_STORES[scheme(address)]
    return StorageError(f"{address}: the package {package} is missing: install it with `make setup EXTRAS={extra}`")


def filesystem(address: str | Place) -> tuple[Any, str]:
    """Arrow's way to open files at an address, and the path of it there."""
    address = str(address)
    kind, _, path = address.partition("://")
    if kind == "s3" and path:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return _s3(os.environ.get("AWS_ENDPOINT_URL", ""), region), path
    if kind == "abfss" and path:
        container, _, rest = path.partition("@")
        host, _, path = rest.partition("/")
        return _azure(host.partition(".")[0]), f"{container}/{path}"
    if kind == "gs" and path:
        return _google(os.environ.get("STORAGE_EMULATOR_HOST", "")), path
    return fs.LocalFileSystem(), address


@cache
def _s3(endpoint: str, region: str | None) -> Any:
    return fs.S3FileSystem(region=region, **_endpoint(endpoint))


@cache
def _azure(account: str) -> Any:
    given = {
        "account_key": os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"),
        "sas_token": os.environ.get("AZURE_STORAGE_SAS_TOKEN"),
    }
    if os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in ("true", "1"):
        at = urlsplit(os.environ.get("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:10000"))
        for kind in ("blob", "dfs"):
            given |= {f"{kind}_storage_authority": at.netloc, f"{kind}_storage_scheme": at.scheme}
    return fs.AzureFileSystem(account, **given)


@cache
def _google(emulator: str) -> Any:
    return fs.GcsFileSystem(anonymous=bool(emulator), **_endpoint(emulator))


def _endpoint(address: str) -> dict[str, str]:
    """What makes a file system talk to this address, and not to the store's own."""
    parts = urlsplit(address)
    return {"endpoint_override": parts.netloc, "scheme": parts.scheme} if address else {}


@contextmanager
def told(address: str, otherwise: str = "") -> Iterator[None]:
    """What a disk or a store answers is told in one line, with what to do; `otherwise` where that is not known."""
    try:
        yield
    except OSError as error:
        said = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:400]  # Delta colours what it says
        number = error.errno or int((re.search(r"os error (\d+)", said) or [0, 0])[1])
        advice = otherwise if scheme(address) else ADVICE.get(number, otherwise)
        raise StorageError(f"{address}: {said}{'. ' * bool(advice)}{advice}") from error
