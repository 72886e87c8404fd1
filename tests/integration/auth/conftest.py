"""auth on a real PostgreSQL, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from services.auth.storage.unit_of_work import SqlWork
from shared.db.database import Database, open_database
from shared.settings import service_database_url
from tests.support.auth import RunningAuth, running_auth


@pytest.fixture(scope="session")
def database_url(migrated: Callable[[str], str]) -> str:
    """The server on which auth has its database."""
    return migrated("auth")


@pytest.fixture(scope="session")
async def auth(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningAuth]:
    """The service, shared by tests that make their own users."""
    async with running_auth(database_url, tmp_path_factory.mktemp("auth")) as running:
        yield running


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """auth's own database."""
    url = service_database_url(database_url, "auth")
    async with open_database(url, connections=10, application="tests") as opened:
        yield opened


@pytest.fixture
def new_work(database: Database) -> Callable[[], SqlWork]:
    """Opens units of work."""
    return lambda: SqlWork(database)
