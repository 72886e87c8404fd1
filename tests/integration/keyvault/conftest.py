"""One keyvault for all tests that do not break it; users are new in each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from services.keyvault.domain.keyring import new_keyring_document
from shared.db.database import Database, open_database
from shared.settings import service_database_url
from tests.integration.keyvault.harness import Keyvault, Surroundings, running
from tests.support.engines import PostgresServer, ValkeyServer
from tests.support.keyvault import write_keyring
from tests.support.tokens import TokenMint, write_identities


@pytest.fixture(scope="session")
async def around(
    migrated: Callable[[str], str],
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Surroundings]:
    """The surroundings that all keyvaults of this session share."""
    folder = tmp_path_factory.mktemp("keyvault")
    write_identities(folder)
    mint = TokenMint()
    async with mint.served() as jwks_url:
        yield Surroundings(
            database_url=migrated("keyvault"),
            broker_url=valkey_server.url,
            jwks_url=jwks_url,
            identities=folder,
            keyring_file=write_keyring(folder / "keyring.json", new_keyring_document()),
            mint=mint,
        )


@pytest.fixture(scope="session")
async def keyvault(around: Surroundings) -> AsyncIterator[Keyvault]:
    """A keyvault that works; tests leave it so."""
    async with running(around) as keyvault:
        yield keyvault


@pytest.fixture
def own_keyring(around: Surroundings, keyvault: Keyvault, tmp_path: Path) -> Surroundings:
    """The same surroundings with a keyring file that a test may spoil; the vault has begun."""
    copy = write_keyring(tmp_path / "keyring.json", around.keyring_file.read_text())
    return replace(around, keyring_file=copy)


@pytest.fixture
async def database(around: Surroundings, keyvault: Keyvault) -> AsyncIterator[Database]:
    """The session's database, seen from beside the service; its vault has begun."""
    url = service_database_url(around.database_url, "keyvault")
    async with open_database(url, connections=5, application="test") as database:
        yield database


@pytest.fixture
async def fresh_database(
    postgres_server: PostgresServer, migrated: Callable[[str], str]
) -> AsyncIterator[Database]:
    """A database in which no vault has begun."""
    template = postgres_server.ensure_template("keyvault_template", _migrate)
    with postgres_server.fresh_database(template=template) as url:
        async with open_database(url, connections=5, application="test") as database:
            yield database


def _migrate(url: str) -> None:
    from shared.db.migrations import upgrade

    upgrade("keyvault", url)
    psycopg2.connect(url).close()
