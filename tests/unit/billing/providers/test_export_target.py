"""What is written on the way to a bucket does not stay when its process was killed."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from services.billing.domain.export_target import check_target
from services.billing.providers.export_formats import CsvFormat
from services.billing.providers.export_target import open_target

HOUR = 3600


@pytest.fixture
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(folder: Path, name: str, *, hours: float) -> Path:
    path = folder / name
    path.write_bytes(b"half of a day")
    then = time.time() - hours * HOUR
    os.utime(path, (then, then))
    return path


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(spools: Path) -> None:
    gone = left(spools, "usage-export-gone", hours=25)
    others = left(spools, "another", hours=25)
    at_work = left(spools, "usage-export-at-work", hours=23)
    folder = spools / "usage-export-folder"
    folder.mkdir()
    os.utime(folder, (0, 0))

    open_target(check_target("s3://bucket/usage")).begin("2026/11/28.csv", CsvFormat()).close()

    assert not gone.exists()
    assert set(spools.iterdir()) == {others, at_work, folder}
