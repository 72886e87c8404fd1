"""Room among backups: the newest stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.companion.backup.keep import keep, main

NOW, DAY = 1_800_000_000, 86_400


def a_backup(folder: Path, name: str, *, days_old: float) -> Path:
    path = folder / name
    path.mkdir() if name.endswith(".unfinished") else path.touch()
    os.utime(path, (NOW - days_old * DAY, NOW - days_old * DAY))
    return path


def test_the_newest_stay_whatever_they_are_called(tmp_path: Path) -> None:
    old = a_backup(tmp_path, "z.tar", days_old=3)
    kept = [a_backup(tmp_path, "b.tar", days_old=1), a_backup(tmp_path, "a.tar", days_old=2)]
    assert keep(tmp_path, 2, now=NOW) == [old]
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_what_somebody_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    a_backup(tmp_path, ".a.tar.7.unfinished", days_old=2)
    working = a_backup(tmp_path, ".b.tar.8.unfinished", days_old=0.1)
    last = a_backup(tmp_path, "old.tar", days_old=90)
    other = a_backup(tmp_path, "deleted", days_old=90)
    keep(tmp_path, 1, now=NOW)
    assert sorted(tmp_path.iterdir()) == sorted([working, last, other])


def test_the_last_one_always_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_backup(tmp_path, "a.tar", days_old=90)
    monkeypatch.setattr("sys.argv", ["keep", str(tmp_path), "0"])
    with pytest.raises(SystemExit):
        main()
    assert (tmp_path / "a.tar").exists()
