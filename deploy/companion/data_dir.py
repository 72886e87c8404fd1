"""The data directory: everything the embedded default keeps, and nothing outside of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from deploy.companion.errors import CompanionError
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DataDir:
    """The places below `COMPANION_DATA_DIR`; deleting it is a factory reset."""

    root: Path

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def mail(self) -> Path:
        """Where mails are written when no mail server is configured."""
        return self.root / "mail"

    @property
    def run(self) -> Path:
        """State of the current run; may be deleted while nothing runs."""
        return self.root / "run"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def passwords(self) -> Path:
        return self.secrets / "passwords.json"

    @property
    def keyring(self) -> Path:
        return self.secrets / "keyvault-keyring.json"

    @property
    def signing_keys(self) -> Path:
        return self.secrets / "auth-signing-keys.json"

    @property
    def webhook_keys(self) -> Path:
        return self.secrets / "billing-webhook-keys.json"

    @property
    def utterance_keys(self) -> Path:
        return self.secrets / "voice-cache-keys.json"

    @property
    def identities(self) -> Path:
        return self.secrets / "identity"

    @property
    def trusted_identities(self) -> Path:
        return self.identities / "trusted.json"

    def identity_key(self, service: str) -> Path:
        return self.identities / f"{service}.pem"

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    @property
    def unfinished_restore(self) -> Path:
        """Is here from a restore's beginning to its end; what ended half-way is never started."""
        return self.root / "restore-unfinished"

    @property
    def has_database(self) -> bool:
        """Whether a PostgreSQL cluster has been made here before."""
        return (self.postgres / "PG_VERSION").exists()

    @property
    def is_new(self) -> bool:
        """Whether nothing worth keeping is here yet, so that secrets may be made."""
        return not self.secrets.exists() and not self.has_database

    def create(self) -> None:
        """Make the directories; what they hold is for this user alone. Raises CompanionError."""
        try:
            if not self.root.exists():
                self.root.mkdir(parents=True)
                # May be passed through, but not listed: PostgreSQL may run as another user.
                self.root.chmod(0o711)
            for path in (self.run, self.logs, self.mail, self.valkey):
                path.mkdir(exist_ok=True)
                path.chmod(0o700)
        except OSError as error:
            raise CompanionError(
                f"The data directory {self.root} can't be used: {error.strerror}.",
                "Make it writable for this user or set COMPANION_DATA_DIR to another place.",
            ) from error


def write_private(path: Path, text: str) -> None:
    """Create a file that only this user can read; never replaces one. Raises FileExistsError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_private(path: Path, text: str) -> None:
    """Put `text` at `path` in one step, so that readers see the old or the new file, never half."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    write_private(draft, text)
    if path.exists() and os.geteuid() == 0:
        # Called by root for a process that runs as somebody else, who must go on reading it.
        os.chown(draft, path.stat().st_uid, path.stat().st_gid)
    draft.replace(path)
    # A database that was told meanwhile must not know more than this folder does after a crash.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None when it is missing or was cut off."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
