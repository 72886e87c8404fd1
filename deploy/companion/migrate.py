"""Bringing every service's database to the newest revision."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from deploy.companion.errors import CompanionError
from shared.db.migrations import DatabaseOfAnother, upgrade
from shared.settings import service_database_url


def migrate_all(database_url: str, services: Sequence[str]) -> None:
    """Migrate the services' databases, one after the other; safe to run twice.

    Raises CompanionError when one of them can't be brought up to date.
    """
    for service in services:
        try:
            upgrade(service, service_database_url(database_url, service))
        except SQLAlchemyError as error:
            named = str(error) if isinstance(error, DatabaseOfAnother) else type(error).__name__
            reason = str(getattr(error, "orig", None) or named).strip()
            raise CompanionError(
                f"The database of {service} can't be migrated: {reason}",
                "Nothing was half-done: each migration is one transaction. Mend the cause and "
                "run it again.",
            ) from error
