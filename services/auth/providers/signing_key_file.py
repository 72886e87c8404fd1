"""The file of signing keys: read by the running service, changed by the console alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from services.auth.domain.errors import SigningKeysUnavailable
from services.auth.domain.key_rotation import KeyLine
from services.auth.domain.signing_key import UnusableSigningKeys
from services.auth.domain.signing_keys import SigningKeys, parse_signing_keys, with_other_keys
from shared.watched_file import UnusableFile, WatchedFile

log = structlog.get_logger(__name__)

_LOCK_SECONDS = 10.0


class SigningKeyFile:
    """Signing keys out of a file, taken anew within a second of its change.

    Without a usable file the process stays up, says that it is not ready and signs nobody in; what
    it has read once goes on serving. It never makes keys of its own: that would hide a lost volume
    and sign everyone out.
    """

    def __init__(self, path: Path | None) -> None:
        if path is None:
            log.error("signing_keys_unavailable", reason="AUTH_SIGNING_KEYS_FILE is not set")
        self._file = None if path is None else WatchedFile(path, _parsed, name="signing_keys")
        # Said at the start, not at the first sign-in.
        if self._file is not None:
            self._file.current()

    def current(self) -> SigningKeys:
        keys = None if self._file is None else self._file.current()
        if keys is None:
            raise SigningKeysUnavailable
        return keys

    async def check(self) -> None:
        """Raises SigningKeysUnavailable, for `/readyz`."""
        self.current()


class SigningKeyBook:
    """The same file, for the one who may write it: one at a time, all or nothing."""

    def __init__(self, path: Path) -> None:
        # What a link names is replaced, not the link.
        self._path = path.resolve()

    def read(self) -> KeyLine:
        """Raises OSError or UnusableSigningKeys."""
        return parse_signing_keys(self._text()).line

    def change(self, change: Callable[[KeyLine], KeyLine]) -> KeyLine:
        """Replace the keys by what `change` makes of them; peppers and all else stay.

        A file that is missing or unusable is left alone. Raises OSError (TimeoutError when another
        command holds the file), UnusableSigningKeys, and what `change` raises.
        """
        with self._alone():
            before = self._text()
            after, line = with_other_keys(before, change)
            if after != before:
                _replace(self._path, after)
            return line

    def _text(self) -> str:
        try:
            return self._path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise UnusableSigningKeys("the file is no text") from error

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._path.exists():
            raise FileNotFoundError(2, "No such file", str(self._path))
        # Beside the file, since the file itself is replaced. Stays there: whoever deleted it would
        # let two commands lock two different files.
        lock = os.open(
            self._path.with_name(f".{self._path.name}.lock"),
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
            0o600,
        )
        try:
            _lock(lock)
            yield
        finally:
            os.close(lock)


def _parsed(text: str) -> SigningKeys:
    try:
        return parse_signing_keys(text)
    except UnusableSigningKeys as error:
        raise UnusableFile(str(error)) from error


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


def _replace(path: Path, text: str) -> None:
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
