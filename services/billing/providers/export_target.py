"""Where the exports of days are put: a directory, or a bucket that speaks S3."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from services.billing.domain.errors import ExportTargetUnavailable
from services.billing.domain.export_ports import Encoder, ExportTarget, ExportWriter, FileFormat
from services.billing.domain.export_target import TargetPlace
from services.billing.domain.usage_export import COLUMNS, FileFacts, Rows

_CHUNK = 1 << 20
_SPOOL = "usage-export-"
_LEFT_OVER_AFTER = timedelta(days=1)


def open_target(place: TargetPlace) -> ExportTarget:
    """The place, to be written to. Nothing is reached yet, and what opens it comes from the usual
    variables and files of AWS."""
    return Bucket(place) if place.is_bucket else Directory(place)


class Directory:
    """A directory: a file is there whole or not at all, also after a crash."""

    def __init__(self, place: TargetPlace) -> None:
        self._root = Path(place.base)
        self.name = place.name

    def begin(self, path: str, format_: FileFormat) -> ExportWriter:
        place = self._root / path
        with _as_unavailable():
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = place.with_name(f".{place.name}.{os.getpid()}.part")
            return _DirectoryWriter(place, beside, format_)

    def put_json(self, path: str, document: Mapping[str, Any]) -> None:
        place = self._root / path
        beside = place.with_name(f".{place.name}.{os.getpid()}.part")
        with _as_unavailable():
            place.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(_json(document))
                file.flush()
                os.fsync(file.fileno())
            _put_in_place(beside, place)


class Bucket:
    """A bucket and a prefix in it. An object appears once all of it has come."""

    def __init__(self, place: TargetPlace) -> None:
        self._base = place.base
        self._options = place.options
        self._opened: Any = None
        self.name = place.name

    def begin(self, path: str, format_: FileFormat) -> ExportWriter:
        # On our own disk first: what is sent while it is made would, broken off, look finished.
        _remove_left_over()
        descriptor, spool = tempfile.mkstemp(prefix=_SPOOL)
        os.close(descriptor)
        return _BucketWriter(self, path, Path(spool), format_)

    def put_json(self, path: str, document: Mapping[str, Any]) -> None:
        with _as_unavailable(), self._files().open_output_stream(f"{self._base}/{path}") as stream:
            stream.write(_json(document))

    def send(self, spool: Path, path: str) -> None:
        """Put a finished file in its place. Raises ExportTargetUnavailable."""
        where = f"{self._base}/{path}"
        with _as_unavailable():
            files = self._files()
            with spool.open("rb") as file, files.open_output_stream(where) as stream:
                while piece := file.read(_CHUNK):
                    stream.write(piece)
            found = files.get_file_info(where)
            if found.size != spool.stat().st_size:
                raise ExportTargetUnavailable("another size arrived")

    def _files(self) -> Any:
        if self._opened is None:
            from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

            self._opened = S3FileSystem(
                endpoint_override=self._options.get("endpoint_override"),
                region=self._options.get("region"),
                scheme=self._options.get("scheme", "https"),
                connect_timeout=5,
                request_timeout=60,
                retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
            )
        return self._opened


class _Writer:
    """A file on our own disk that counts, hashes and measures itself."""

    def __init__(self, path: Path, spool: Path, format_: FileFormat) -> None:
        self._path = path
        self._spool = spool
        self._format = format_
        self._encoder: Encoder = format_.begin(COLUMNS)
        self._digest = hashlib.sha256()
        self._rows = self._bytes = 0
        self._file = spool.open("wb")

    def add(self, rows: Rows) -> None:
        self._rows += len(rows)
        self._write(self._encoder.rows(rows))

    def finish(self) -> FileFacts:
        self._write(self._encoder.end())
        with _as_unavailable():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        digest = self._digest.hexdigest()
        return FileFacts(self._path.name, self._format.name, self._rows, self._bytes, digest)

    def close(self) -> None:
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._spool.unlink()

    def _write(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._bytes += len(piece)
        with _as_unavailable():
            self._file.write(piece)


class _DirectoryWriter(_Writer):
    def publish(self) -> None:
        with _as_unavailable():
            _put_in_place(self._spool, self._path)


class _BucketWriter(_Writer):
    def __init__(self, bucket: Bucket, path: str, spool: Path, format_: FileFormat) -> None:
        super().__init__(Path(path), spool, format_)
        self._bucket = bucket

    def publish(self) -> None:
        self._bucket.send(self._spool, str(self._path))


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Its kind alone: a message of the S3 client may hold what a request was signed with.
        raise ExportTargetUnavailable(type(error).__name__) from None


def _remove_left_over() -> None:
    """What a process was writing when it was killed: its folder may outlive it, and is as large as
    a few days need."""
    before = time.time() - _LEFT_OVER_AFTER.total_seconds()
    for path in Path(tempfile.gettempdir()).glob(f"{_SPOOL}*"):
        # Another one of us may be at it, or it is somebody else's.
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < before:
                path.unlink()


def _json(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _put_in_place(beside: Path, place: Path) -> None:
    beside.replace(place)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
