"""When the last backup was taken: for `companion doctor`, and for Prometheus."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.companion.backup.estate import SECRETS_VARIABLE
from deploy.companion.data_dir import DataDir, read_json, replace_private
from deploy.companion.errors import CompanionError
from deploy.companion.settings import Settings
from shared.values import dataclass

if TYPE_CHECKING:
    from deploy.companion.backup.create import Taken

_METRICS = """\
# HELP companion_backup_last_success_timestamp_seconds When the last backup was complete.
# TYPE companion_backup_last_success_timestamp_seconds gauge
companion_backup_last_success_timestamp_seconds {at:.0f}
# HELP companion_backup_bytes How large the last backup is.
# TYPE companion_backup_bytes gauge
companion_backup_bytes {bytes}
"""


@dataclass(frozen=True, slots=True)
class LastBackup:
    """The one that was taken last from this data directory."""

    at: datetime
    path: str


def note_backup(taken: Taken, metrics_file: Path | None) -> None:
    """Write it down where there is a data directory, and where Prometheus's agent looks.

    Raises CompanionError.
    """
    root = Settings.from_environment().data_dir
    try:
        # A deployment's backup says nothing of a data directory that is here, too.
        if root.is_dir() and SECRETS_VARIABLE not in os.environ:
            text = json.dumps({"at": taken.manifest.at, "path": str(taken.path)}) + "\n"
            replace_private(_file(DataDir(root)), text)
        if metrics_file is not None:
            text = _METRICS.format(at=taken.manifest.moment.timestamp(), bytes=taken.bytes)
            _replace_readable(metrics_file, text)
    except OSError as error:
        raise CompanionError(
            "The backup is complete, but it can't be written down when it was taken: "
            f"{error.filename}: {error.strerror}."
        ) from error


def last_backup(data: DataDir) -> LastBackup | None:
    """None when none was ever taken."""
    known = read_json(_file(data))
    try:
        return LastBackup(datetime.fromisoformat(known["at"]).astimezone(), str(known["path"]))
    except (TypeError, KeyError, ValueError):
        return None


def _file(data: DataDir) -> Path:
    return data.root / "last-backup.json"


def _replace_readable(path: Path, text: str) -> None:
    # The agent runs as somebody else.
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o644)
        file.write(text)
    Path(draft).replace(path)
