"""The keyring's file, for the one who may change it: the console, never a service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from services.keyvault.domain.keyring import Keyring, KeyringRefused, read_keyring
from services.keyvault.domain.rotation import Change
from services.keyvault.providers.keyring_file import parsed
from shared.locked_file import alone_with, replace_whole


class KeyringBook:
    """One change at a time, whole or not at all; what can't be read is left alone.

    The file keeps its owner, and is for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        # What a link names is replaced, not the link.
        self._path = path.resolve()

    async def read(self) -> Keyring:
        """Raises KeyringRefused, or OSError."""
        return read_keyring(await asyncio.to_thread(self._document))

    async def change(self, change: Change) -> Keyring:
        """Raises KeyringRefused, OSError (TimeoutError when another command holds the file), and
        what `change` raises."""
        return await asyncio.to_thread(self._change, change)

    def _change(self, change: Change) -> Keyring:
        with alone_with(self._path):
            before = self._document()
            after = change(before)
            # Read as a service will, before any of them does.
            keyring = read_keyring(after)
            if after != before:
                replace_whole(self._path, json.dumps(after, indent=2) + "\n")
            return keyring

    def _document(self) -> Mapping[str, Any]:
        try:
            document = parsed(self._path.read_bytes())
        except FileNotFoundError as error:
            raise KeyringRefused("keyring_missing") from error
        read_keyring(document)
        return cast(Mapping[str, Any], document)
