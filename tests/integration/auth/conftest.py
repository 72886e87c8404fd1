"""auth on a real PostgreSQL, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from services.auth.storage.unit_of_work import News, SqlWork
from shared.db.database import Database, open_database
from shared.limits.current_tiers import CurrentTiers
from shared.news.ended_sessions import EndedSessions
from shared.settings import service_database_url
from shared.valkey import open_cache
from tests.support.auth import HeldKeys, RunningAuth, running_auth, some_signing_keys
from tests.support.engines import ValkeyServer


@pytest.fixture(scope="session")
def database_url(migrated: Callable[[str], str]) -> str:
    """The server on which auth has its database."""
    return migrated("auth")


@pytest.fixture(scope="session")
async def cache_url(valkey_server: ValkeyServer) -> AsyncIterator[str]:
    """A Valkey that knows of all ended sessions, as auth's worker makes it."""
    with valkey_server.fresh_database() as url:
        async with open_cache(url) as cache:
            await EndedSessions(cache).repeat([])
        yield url


@pytest.fixture(scope="session")
async def auth(
    database_url: str, cache_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningAuth]:
    """The service, shared by tests that make their own users."""
    directory = tmp_path_factory.mktemp("auth")
    async with running_auth(database_url, directory, cache_url=cache_url) as running:
        yield running


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """auth's own database."""
    url = service_database_url(database_url, "auth")
    async with open_database(url, connections=10, application="tests") as opened:
        yield opened


@pytest.fixture(scope="session")
async def news(cache_url: str) -> AsyncIterator[News]:
    """Where ended sessions and changed tiers are told."""
    async with open_cache(cache_url) as cache:
        yield News(EndedSessions(cache), CurrentTiers(cache))


@pytest.fixture
def new_work(database: Database, news: News) -> Callable[[], SqlWork]:
    """Opens units of work."""
    return lambda: SqlWork(database, news, HeldKeys(some_signing_keys()))
