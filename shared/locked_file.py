"""A private file that the console changes while services read it: one at a time, all or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_LOCK_SECONDS = 10.0


@contextlib.contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """For the length of a block no other command changes the file.

    Raises FileNotFoundError without the file, TimeoutError when another command holds it for long.
    """
    if not path.exists():
        raise FileNotFoundError(2, "No such file", str(path))
    # Beside the file, since the file itself is replaced. Stays there: whoever deleted it would
    # let two commands lock two different files.
    lock = os.open(
        path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        _lock(lock)
        yield
    finally:
        os.close(lock)


def _lock(file: int) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise TimeoutError("another command holds the file") from error
            time.sleep(0.02)
        else:
            return


def replace_whole(path: Path, text: str) -> None:
    """Put a whole file in the old one's place; after a crash at any moment one of both is there."""
    owner = path.stat()
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        os.fchmod(file, 0o600)
        if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
            # Called by root for a service that runs as somebody else, who must read it.
            os.fchown(file, owner.st_uid, owner.st_gid)
        stream.write(text)
        stream.flush()
        os.fsync(file)
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
