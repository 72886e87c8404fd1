"""The key that endpoints' secrets are sealed with, out of a file."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path

from services.billing.domain.errors import WebhookSecretsUnavailable
from services.billing.domain.webhook import EndpointId
from shared.sealing import KeysByVersion, Sealer, Unsealable
from shared.watched_file import UnusableFile, WatchedFile

_PURPOSE = "webhook secret"
_KEY_BYTES = 32


class SealedSecrets:
    """Seals with the newest key of the file, which is taken anew within a second of its change.

    Without a usable file nothing else of billing stops; it never makes keys of its own.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else WatchedFile(path, parse_keys, name="webhook_keys")

    def seal(self, endpoint_id: EndpointId, secret: str) -> bytes:
        return self._sealer().seal(_PURPOSE, endpoint_id, secret.encode())

    def open(self, endpoint_id: EndpointId, sealed: bytes) -> str:
        try:
            return self._sealer().open(_PURPOSE, endpoint_id, sealed).decode()
        except Unsealable as error:
            raise WebhookSecretsUnavailable from error

    def is_usable(self) -> bool:
        return self._file is not None and self._file.current() is not None

    def _sealer(self) -> Sealer:
        keys = None if self._file is None else self._file.current()
        if keys is None:
            raise WebhookSecretsUnavailable
        return Sealer(keys)


def parse_keys(text: str) -> Mapping[int, bytes]:
    """The keys by their version. Raises UnusableFile."""
    try:
        entries = json.loads(text)["sealing_keys"]
        found = {int(one["version"]): b64decode(one["key"], validate=True) for one in entries}
        keys = KeysByVersion.of(found, entries)
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise UnusableFile("it is not of the expected form") from error
    if not keys or len(keys) != len(entries) or min(keys) < 1:
        raise UnusableFile("each version of a key is needed once")
    if any(len(key) != _KEY_BYTES for key in keys.values()):
        raise UnusableFile(f"a key is not of {_KEY_BYTES} bytes")
    return keys
