"""The keyring of keyvault: the keys that every stored provider key is sealed with.

Made once, by an explicit step. Losing it loses what it sealed, and a second one would hide that.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from pathlib import Path

from deploy.companion.data_dir import write_private
from deploy.companion.errors import CompanionError

_KEY_BYTES = 32


def create_keyring_file(path: Path) -> None:
    """Write a new keyring that only this user can read. Raises CompanionError if one is there."""
    try:
        write_private(path, json.dumps(_new_keyring(), indent=2) + "\n")
    except FileExistsError as error:
        raise CompanionError(
            f"There is a keyring at {path} already.",
            "It is never replaced: without it the provider keys of all users are lost.",
        ) from error


def _new_keyring() -> dict[str, object]:
    return {
        "active": 1,
        "keys": [{"version": 1, "key": _new_key(), "state": "active"}],
        "fingerprint_keys": [{"version": 1, "key": _new_key()}],
        # Bound into every seal, so that data of one installation can't be moved into another.
        "environment": secrets.token_hex(16),
    }


def _new_key() -> str:
    return b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
