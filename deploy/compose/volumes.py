"""Hands the folders below /volumes to the user that runs everything: `python -m … UID GID`.

A named volume comes into being as root's, and no container of ours may change that but this one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

VOLUMES = Path("/volumes")


def hand_over(folder: Path, uid: int, gid: int) -> None:
    """Make the folder the user's; what is in it only where that belonged to somebody else."""
    state = folder.stat()
    if (state.st_uid, state.st_gid) == (uid, gid):
        return
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(path, name), uid, gid, follow_symlinks=False)
    # Last, so that one that was broken off is gone through again.
    os.chown(folder, uid, gid)


def main(arguments: Sequence[str]) -> None:
    """Hand all over."""
    uid, gid = (int(text) for text in arguments)
    for folder in sorted(VOLUMES.iterdir()):
        hand_over(folder, uid, gid)


if __name__ == "__main__":
    main(sys.argv[1:])
