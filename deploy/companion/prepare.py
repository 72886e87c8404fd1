"""What must exist before the services start: secrets, databases, tables, queues.

Secrets are made for a new data directory only. Later a missing one is reported, never replaced:
a new keyring or a new password would not open what the old one closed.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from deploy.companion.data_dir import DataDir, read_json, write_private
from deploy.companion.errors import CompanionError
from deploy.companion.identities import create_identities
from deploy.companion.keyring import create_keyring_file
from deploy.companion.programs import SERVICES
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Passwords:
    """The generated passwords of the embedded engines."""

    postgres_superuser: str
    postgres_role: str
    valkey: str


def create_secrets(data_dir: Path, *, with_keyring: bool = True) -> None:
    """Make the secrets of a new data directory, all or none.

    Raises CompanionError when the directory has secrets or a database already. `with_keyring` is
    false when an outside server holds data that another keyring sealed.
    """
    data = DataDir(data_dir)
    if not data.is_new:
        raise CompanionError(f"{data_dir} is in use already; its secrets are not made anew.")
    draft = DataDir(data.root / "new-secrets")
    shutil.rmtree(draft.root, ignore_errors=True)
    draft.trusted_identities.parent.mkdir(parents=True, mode=0o700)
    draft.secrets.chmod(0o700)
    _create_passwords(draft.passwords)
    create_identities(draft, SERVICES)
    _create_signing_keys(draft.signing_keys)
    create_webhook_keys(draft)
    create_utterance_keys(draft)
    if with_keyring:
        create_keyring_file(draft.keyring)
    draft.secrets.rename(data.secrets)
    draft.root.rmdir()


def read_passwords(data: DataDir) -> Passwords:
    """The engines' passwords. Raises CompanionError when they are lost."""
    try:
        return Passwords(**json.loads(data.passwords.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CompanionError(
            f"The passwords of the engines can't be read from {data.passwords}.",
            "Restore the file, or delete the data directory to start anew.",
        ) from error


def lost_secrets(data: DataDir) -> list[str]:
    """One warning for each secret that a used data directory should have and has not."""
    warnings = []
    if not data.keyring.exists():
        warnings.append(
            f"The keyring {data.keyring} is missing. None is made, because it could not open what "
            "the old one sealed: keyvault stays sealed until you restore the file and restart."
        )
    if not data.signing_keys.exists():
        warnings.append(
            f"The signing keys {data.signing_keys} are missing; auth can't issue tokens until you "
            "restore the file."
        )
    return warnings


def damaged_secrets(data: DataDir) -> list[str]:
    """One sentence for each of those files that is there and that its service can't use."""
    from services.auth.domain.signing_key import UnusableSigningKeys
    from services.auth.domain.signing_keys import parse_signing_keys
    from services.keyvault.domain.keyring import KeyringRefused, read_keyring

    damages = []
    if data.keyring.exists():
        try:
            read_keyring(read_json(data.keyring))
        except KeyringRefused as refused:
            damages.append(f"The keyring {data.keyring} can't be used: {refused.reason}.")
    if data.signing_keys.exists():
        try:
            parse_signing_keys(data.signing_keys.read_text("utf-8"))
        except (OSError, UnusableSigningKeys, UnicodeDecodeError) as error:
            reason = error if isinstance(error, UnusableSigningKeys) else type(error).__name__
            damages.append(f"The signing keys {data.signing_keys} can't be used: {reason}.")
    return damages


def create_webhook_keys(data: DataDir) -> bool:
    """The key that webhooks' secrets are sealed with; answers whether there was none.

    Also for a data directory that is in use: an older one has none, and where it was lost, owners
    mend their webhooks by a new secret.
    """
    return _create_sealing_key(data.webhook_keys)


def create_utterance_keys(data: DataDir) -> bool:
    """The key that voice's kept utterances are sealed with; answers whether there was none.

    Also for a data directory that is in use: what a lost one has sealed is spoken anew.
    """
    return _create_sealing_key(data.utterance_keys)


def migrate(database_url: str, services: Sequence[str]) -> None:
    """Create the databases of the services and bring their tables up to date."""
    # Imported here: it brings the database libraries along, which other commands don't need.
    from deploy.companion.databases import database_name, ensure_databases
    from deploy.companion.migrate import migrate_all

    ensure_databases(database_url, [database_name(service) for service in services])
    migrate_all(database_url, services)


def declare_queues(broker_url: str) -> None:
    """Make the queues, so that a fact published before its listener's first start is kept."""
    from kombu.exceptions import OperationalError

    from deploy.companion.queues import declare_all

    try:
        declare_all(broker_url)
    except (OSError, OperationalError) as error:
        raise CompanionError(
            f"The broker can't be used: {error}.", "Check BROKER_URL and that the server runs."
        ) from error


def _create_sealing_key(path: Path) -> bool:
    if path.exists():
        return False
    key = b64encode(secrets.token_bytes(32)).decode()
    keys = [{"version": 1, "key": key, "from": int(time.time())}]
    write_private(path, json.dumps({"sealing_keys": keys}, indent=2) + "\n")
    return True


def _create_passwords(path: Path) -> None:
    names = ("postgres_superuser", "postgres_role", "valkey")
    # Safe in a URL and in a configuration file without any quoting.
    write_private(path, json.dumps({name: secrets.token_urlsafe(24) for name in names}, indent=2))


def _create_signing_keys(path: Path) -> None:
    from services.auth.domain.signing_keys import new_signing_keys

    document = new_signing_keys()
    for name in ("refresh_peppers", "sealing_keys", "audit_keys"):
        for entry in document[name]:
            entry["from"] = int(time.time())
    write_private(path, json.dumps(document, indent=2) + "\n")
