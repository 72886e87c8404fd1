"""The keyring of keyvault: the keys that every stored provider key is sealed with.

Made once, by an explicit step. Losing it loses what it sealed, and a second one would hide that.
How its versions follow each other is in `key_rotation.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

from deploy.companion.data_dir import write_private
from deploy.companion.errors import CompanionError


def create_keyring_file(path: Path) -> None:
    """Write a new keyring that only this user can read. Raises CompanionError if one is there."""
    from services.keyvault.domain.keyring import new_keyring_document

    try:
        write_private(path, json.dumps(new_keyring_document(), indent=2) + "\n")
    except FileExistsError as error:
        raise CompanionError(
            f"There is a keyring at {path} already.",
            "It is never replaced: without it the provider keys of all users are lost.",
        ) from error
