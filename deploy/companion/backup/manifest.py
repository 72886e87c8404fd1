"""What a backup says of itself: its files and their digests, its moment, versions and heads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import psycopg2

from deploy.companion.errors import CompanionError
from deploy.companion.programs import SERVICES
from shared.values import dataclass

FORMAT = 1
NAME = "manifest.json"
SECRETS = "secrets.sealed"
_PIECE = 1 << 20
# Some hundred bytes for each file: room for a hundred thousand.
_LARGEST = 32 << 20


@dataclass(frozen=True, slots=True)
class Database:
    """One service's database at the moment of the backup."""

    revision: str
    events_sent: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `manifest.json`."""

    at: str
    """The moment of the first snapshot; whatever was committed before it is in the backup."""
    until: str
    """The moment of the last snapshot; nothing that was begun after it is."""
    server_version: str
    databases: Mapping[str, Database]
    ledger: Mapping[str, int]
    """Count and sum of all entries, to be compared after a restore."""
    ledger_heads: Mapping[str, str]
    """The end of each chain, as `companion ledger verify --head` takes it."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path, of all files but this one and the sealed secrets."""
    secrets_sha256: str | None = None
    format: int = FORMAT

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.at)

    @property
    def binding(self) -> bytes:
        """What the sealed secrets belong to."""
        facts = {"at": self.at, "files": dict(self.files)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()

    def check(self) -> None:
        """That it is about a whole backup. Raises ValueError."""
        if self.moment.tzinfo is None:
            raise ValueError("a moment without its zone")
        if set(self.databases) != set(SERVICES):
            raise ValueError("other databases than ours")
        if not {f"{service}.dump" for service in SERVICES} <= set(self.files):
            raise ValueError("a dump without its digest")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises CompanionError."""
        try:
            document: dict[str, Any] = json.loads(text)
            if document["format"] != FORMAT:
                raise CompanionError(
                    f"This backup has the format {document['format']}, and we know {FORMAT}.",
                    "Restore it with the release that made it.",
                )
            databases = {name: Database(**one) for name, one in document["databases"].items()}
            manifest = cls(**{**document, "databases": databases})
            manifest.check()
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CompanionError(f"{NAME} is damaged, or none of ours.") from error


def read_manifest(folder: Path) -> Manifest:
    """Raises CompanionError."""
    try:
        if (folder / NAME).stat().st_size > _LARGEST:
            raise CompanionError(f"{NAME} is damaged, or none of ours.")
        return Manifest.from_json((folder / NAME).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CompanionError(
            f"{folder} is no backup: it has no {NAME} that can be read.",
            "A backup that was interrupted has none; take another one.",
        ) from error


def check_files(folder: Path, manifest: Manifest) -> None:
    """That each file is the one that was written. Raises CompanionError."""
    wanted = dict(manifest.files)
    if manifest.secrets_sha256 is not None and (folder / SECRETS).exists():
        wanted[SECRETS] = manifest.secrets_sha256
    for name, digest in wanted.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CompanionError(f"{NAME} names a file outside of the backup.")
        path = folder / name
        if not path.is_file():
            raise CompanionError(f"The backup lacks {name}.", "Take another one.")
        if sha256_of(path) != digest:
            raise CompanionError(f"{name} is not what was backed up.", "Take another backup.")


def sha256_of(path: Path) -> str:
    """The digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def files_of(folder: Path) -> Iterator[Path]:
    """All files below a folder, in one order. Raises OSError for what can't be looked into.

    Links are followed: a keyring may lie elsewhere, and Kubernetes shows each secret by a link.
    What these lead to it keeps in folders beside, whose names begin with two dots.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = [
            name
            for name in folders
            if not name.startswith("..") and os.path.realpath(Path(place, name)) not in seen
        ]
        found += [Path(place, name) for name in names if not name.startswith("..")]
    yield from sorted(path for path in found if path.is_file())


def _raise(error: OSError) -> None:
    raise error


@contextlib.contextmanager
def said_plainly() -> Iterator[None]:
    """What disks and databases refuse, as one sentence. Raises CompanionError."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CompanionError(f"{where}{error.strerror or type(error).__name__}.") from error
    except psycopg2.Error as error:
        # Its kind is told; its text may hold what somebody wrote.
        raise CompanionError(f"A database refused ({type(error).__name__}).") from error


def sync_file(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
