"""Makes room among backups: `python -m deploy.companion.backup.keep FOLDER NUMBER`.

Keeps the newest ones, and removes what a backup that was broken off has left.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

_UNFINISHED_SECONDS = 86_400
"""No backup takes as long: whoever wrote it has died."""


def keep(folder: Path, number: int, *, now: float) -> list[Path]:
    """Remove all but the newest backups in one file each, and say which."""
    backups = sorted(folder.glob("*.tar"), key=_changed, reverse=True)
    left = [path for path in _unfinished(folder) if now - _changed(path) > _UNFINISHED_SECONDS]
    gone = [*backups[number:], *left]
    for path in gone:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return gone


def _unfinished(folder: Path) -> list[Path]:
    return [*folder.glob(".*.unfinished"), *folder.glob(".*.whole")]


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def main() -> None:
    """Parse the command line and make room."""
    parser = argparse.ArgumentParser(prog="python -m deploy.companion.backup.keep")
    parser.add_argument("folder", type=Path)
    parser.add_argument("number", type=int)
    given = parser.parse_args()
    if given.number < 1:
        parser.error("NUMBER is 1 or more: the last backup always stays.")
    for path in keep(given.folder, given.number, now=time.time()):
        print(f"removed {path}")


if __name__ == "__main__":
    main()
