"""Archived partitions of the ledger as Parquet files in a directory.

Beside `<partition>.parquet` lies `<partition>.json`: how many entries and records it holds, their
sums, the end of each chain, and the file's SHA-256. The columns stand in docs/decisions/0036.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from services.billing.domain.archive import Contents
from services.billing.domain.errors import ArchiveUnreadable
from services.billing.domain.ledger_chain import ENTRY_FIELDS, KEY_FIELD, RATING_FIELDS

_ROWS_A_GROUP = 50_000
_ROWS_AT_ONCE = 10_000
_FIELDS = (*ENTRY_FIELDS, *RATING_FIELDS, KEY_FIELD)
_IDS = tuple(name for name, kind in _FIELDS if kind == "uuid")
_CHUNK = 1 << 20


def _schema() -> Any:
    # Imported here: it takes most of a second, and only the archive needs it.
    import pyarrow as pa

    types = {
        "uuid": pa.string(),
        "text": pa.string(),
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "timestamptz": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema(
        [
            pa.field("chain", pa.int32(), nullable=False),
            pa.field("link_sequence", pa.int64(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("link", pa.binary(32), nullable=False),
            *(pa.field(name, types[kind]) for name, kind in _FIELDS),
        ],
        metadata={"companion.ledger": "1"},
    )


def _is_ours(found: Any) -> bool:
    """Also of a file of before the last column was known: none of its calls has it."""
    schema = _schema()
    return bool(found.equals(schema) or found.equals(schema.remove(len(schema) - 1)))


class ParquetArchive:
    """One directory of files; a file is there whole or not at all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    def begin(self, partition: str) -> ParquetWriter:
        return ParquetWriter(self._file(partition))

    def describe(self, partition: str, contents: Contents) -> None:
        path = self._description(partition)
        beside = path.with_suffix(".json.part")
        with beside.open("w", encoding="utf-8") as file:
            json.dump({"partition": partition, **contents.as_json()}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(beside, path)

    def described(self, partition: str) -> Contents | None:
        try:
            return Contents.from_json(json.loads(self._description(partition).read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def read(self, partition: str) -> Iterator[Sequence[Mapping[str, Any]]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self._file(partition)) as file:
                if not _is_ours(file.schema_arrow):
                    raise ArchiveUnreadable(partition)
                for batch in file.iter_batches(_ROWS_AT_ONCE):
                    yield batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise ArchiveUnreadable(partition) from error

    def digest(self, partition: str) -> str | None:
        digest = hashlib.sha256()
        try:
            with self._file(partition).open("rb") as file:
                while piece := file.read(_CHUNK):
                    digest.update(piece)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    def names(self) -> Sequence[str]:
        return sorted(path.stem for path in self._directory.glob("ledger_entry_*.parquet"))

    def _file(self, partition: str) -> Path:
        return self._directory / f"{partition}.parquet"

    def _description(self, partition: str) -> Path:
        return self._directory / f"{partition}.json"


class ParquetWriter:
    """A file under a name of its own until it is finished."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        self._beside = path.with_suffix(".parquet.part")
        self._schema = _schema()
        self._waiting: list[Mapping[str, Any]] = []
        self._writer = pq.ParquetWriter(self._beside, self._schema, compression="zstd")

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._waiting += records
        if len(self._waiting) >= _ROWS_A_GROUP:
            self._write()

    def finish(self) -> str:
        self._write()
        self._writer.close()
        digest = hashlib.sha256()
        with self._beside.open("rb") as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
            os.fsync(file.fileno())
        _put_in_place(self._beside, self._path)
        return digest.hexdigest()

    def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(FileNotFoundError):
            self._beside.unlink()

    def _write(self) -> None:
        import pyarrow as pa

        rows = [_row(record) for record in self._waiting]
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))
        self._waiting = []


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: str(UUID(str(record[name]))) for name in _IDS if record.get(name) is not None}
    return {**record, **texts}


def _put_in_place(beside: Path, path: Path) -> None:
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
