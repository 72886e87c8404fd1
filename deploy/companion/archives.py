"""Archives of ours, unpacked so that nothing in them gets out of its folder."""

from __future__ import annotations

import copy
import os
import tarfile
from pathlib import Path, PurePosixPath


def unpack(archive: tarfile.TarFile, folder: Path | str) -> None:
    """Everything that is in it, below the folder, as ours.

    Raises tarfile.TarError for what would lie elsewhere, or is no file and no folder.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
    else:  # Python before 3.11.4
        archive.extractall(folder, [_harmless(member) for member in archive])  # noqa: S202 - these


def _harmless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
        raise tarfile.ExtractError(f"{member.name!r} is not taken out of an archive")
    ours = copy.copy(member)
    ours.uid, ours.gid, ours.uname, ours.gname = os.geteuid(), os.getegid(), "", ""
    ours.mode &= 0o755
    return ours
