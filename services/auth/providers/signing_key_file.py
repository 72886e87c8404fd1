"""The file of signing keys: read by the running service, changed by the console alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from services.auth.domain.errors import SigningKeysUnavailable
from services.auth.domain.key_rotation import KeyLine
from services.auth.domain.signing_key import UnusableSigningKeys
from services.auth.domain.signing_keys import SigningKeys, parse_signing_keys, with_other_keys
from shared.locked_file import alone_with, replace_whole
from shared.watched_file import UnusableFile, WatchedFile

log = structlog.get_logger(__name__)


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
        with alone_with(self._path):
            before = self._text()
            after, line = with_other_keys(before, change)
            if after != before:
                replace_whole(self._path, after)
            return line

    def _text(self) -> str:
        try:
            return self._path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise UnusableSigningKeys("the file is no text") from error


def _parsed(text: str) -> SigningKeys:
    try:
        return parse_signing_keys(text)
    except UnusableSigningKeys as error:
        raise UnusableFile(str(error)) from error
