"""What there is to back up, and where: the embedded default's, or a deployment's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from deploy.companion.databases import database_name, database_url
from deploy.companion.engines.binaries import postgres_client
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.programs import SERVICES
from deploy.companion.settings import Settings
from shared.values import dataclass

SECRETS_VARIABLE = "COMPANION_SECRETS"
"""A deployment's folder of secrets, one folder a service, with its `database_url` inside."""


@dataclass(frozen=True, slots=True)
class Estate:
    """An installation's databases by service, its folder of secrets, its ledger's archive."""

    databases: Mapping[str, str] = field(repr=False)
    secrets: Path
    archive: Path | None = None

    @classmethod
    def find(cls) -> Estate:
        """The deployment that `COMPANION_SECRETS` names, else the embedded default.

        Raises CompanionError.
        """
        folder = os.environ.get(SECRETS_VARIABLE)
        if folder:
            return cls.of_deployment(Path(folder))
        return cls.embedded(Installation.open())

    @classmethod
    def of_deployment(cls, secrets: Path) -> Estate:
        """Raises CompanionError."""
        databases = {}
        for service in SERVICES:
            path = secrets / service / "database_url"
            try:
                server = path.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise CompanionError(
                    f"The address of {service}'s database can't be read from {path}.",
                    f"{SECRETS_VARIABLE} is the folder with one folder a service.",
                ) from error
            databases[service] = database_url(server, database_name(service))
        return cls(databases, secrets, _archive(os.environ))

    @classmethod
    def embedded(cls, installation: Installation) -> Estate:
        """Raises CompanionError when it was never started."""
        server = installation.addresses().database_url
        databases = {name: database_url(server, database_name(name)) for name in SERVICES}
        return cls(databases, installation.data.secrets, archive_of(installation.settings))


def archive_of(settings: Settings) -> Path | None:
    """Where billing puts old partitions of the ledger, if it does."""
    return _archive(settings.inherited)


def _archive(environment: Mapping[str, str]) -> Path | None:
    folder = environment.get("BILLING_LEDGER_ARCHIVE_DIR")
    return Path(folder) if folder else None


def program(name: str) -> str:
    """A program of PostgreSQL: the embedded engine's, or the one of PATH. Raises CompanionError."""
    try:
        return str(postgres_client(name))
    except CompanionError as absent:
        found = shutil.which(name)
        if found is None:
            raise CompanionError(
                f"There is no {name} here.", "Install PostgreSQL's client programs."
            ) from absent
        return found
