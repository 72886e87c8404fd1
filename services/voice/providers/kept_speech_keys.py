"""The keys that kept speeches are sealed with, out of a file."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path

from shared.sealing import KeysByVersion
from shared.watched_file import UnusableFile, WatchedFile

_KEY_BYTES = 32


class FileKeptSpeechKeys:
    """Read again within a second of a change. Without a usable file nothing is kept; it never
    makes keys of its own."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else WatchedFile(path, parse_keys, name="utterance_keys")

    def current(self) -> Mapping[int, bytes] | None:
        return None if self._file is None else self._file.current()


def parse_keys(text: str) -> Mapping[int, bytes]:
    """The keys by their version. Raises UnusableFile."""
    try:
        entries = json.loads(text)["sealing_keys"]
        found = {int(one["version"]): b64decode(one["key"], validate=True) for one in entries}
        keys = KeysByVersion.of(found, entries)
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise UnusableFile("it is not of the expected form") from error
    if not keys or len(keys) != len(entries) or min(keys) < 1 or max(keys) >= 1 << 32:
        raise UnusableFile("each version of a key is needed once")
    if any(len(key) != _KEY_BYTES for key in keys.values()):
        raise UnusableFile(f"a key is not of {_KEY_BYTES} bytes")
    return keys
