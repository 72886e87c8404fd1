"""The file of signing keys, read once when the process starts."""

from __future__ import annotations

from pathlib import Path

import structlog

from services.auth.domain.errors import SigningKeysUnavailable
from services.auth.domain.signing_keys import (
    SigningKeys,
    UnusableSigningKeys,
    parse_signing_keys,
)

log = structlog.get_logger(__name__)


class SigningKeyFile:
    """Signing keys out of a file.

    Without a usable file the process stays up, says that it is not ready and signs nobody in. It
    never makes keys of its own: that would hide a lost volume and sign everyone out.
    """

    def __init__(self, path: Path | None) -> None:
        self._keys = _read(path)

    def current(self) -> SigningKeys:
        if self._keys is None:
            raise SigningKeysUnavailable
        return self._keys

    async def check(self) -> None:
        """Raises SigningKeysUnavailable, for `/readyz`."""
        self.current()


def _read(path: Path | None) -> SigningKeys | None:
    if path is None:
        log.error("signing_keys_unavailable", reason="AUTH_SIGNING_KEYS_FILE is not set")
        return None
    try:
        return parse_signing_keys(path.read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnusableSigningKeys as error:
        reason = str(error)
    except UnicodeDecodeError:
        reason = "the file is no text"
    log.error("signing_keys_unavailable", file=str(path), reason=reason)
    return None
