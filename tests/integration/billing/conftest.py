"""Billing on real engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from services.billing.actions import Actions
from services.billing.domain.ports import NewUnitOfWork
from services.billing.settings import Settings
from services.billing.storage.unit_of_work import SqlWork
from services.billing.tasks import listen
from shared.db.database import Database, open_database
from shared.db.migrations import upgrade
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.identity import Peers
from shared.ids import UserId
from shared.messaging.consumer import Consumer
from tests.integration.billing.harness import (
    Billing,
    a_message,
    actions_on,
    running_billing,
    take_in,
)
from tests.integration.billing.organisations import Place, StandInAuth
from tests.support.billing import StoppedClock
from tests.support.engines import PostgresServer, ValkeyServer, running_postgres
from tests.support.sessions import know_ended_sessions
from tests.support.tokens import TokenMint, serving, write_identities


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A migrated database of billing's that nobody has used."""
    template = postgres_server.ensure_template(
        "template_billing", lambda url: upgrade("billing", url)
    )
    with postgres_server.fresh_database(template=template) as url:
        yield url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url, connections=10, application="tests") as database:
        yield database


@pytest.fixture
def mortal_postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL that keeps its promises, and that the test may crash or stop."""
    with running_postgres(tmp_path, hasty=False) as server:
        server.create_database("billing")
        upgrade("billing", server.url_of("billing"))
        yield server


@pytest_asyncio.fixture
async def mortal_database(mortal_postgres: PostgresServer) -> AsyncIterator[Database]:
    url = mortal_postgres.url_of("billing")
    async with open_database(url, connections=4, application="worker") as database:
        yield database


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def work(database: Database) -> NewUnitOfWork:
    return lambda: SqlWork(database)


@pytest.fixture
def actions(work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings]) -> Actions:
    """Billing's verbs on a fresh database, under a stopped clock."""
    return actions_on(work, settings(), clock)


@pytest.fixture
def consumer(actions: Actions, database: Database) -> Consumer:
    """What billing's worker does with a message."""
    return Consumer(listen, actions, database)


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("identities")
    write_identities(directory)
    return directory


@pytest.fixture(scope="session")
def settings(identities: Path) -> Callable[..., Settings]:
    def make(**given: Any) -> Settings:
        return Settings.model_validate(
            {
                "database_url": "postgresql://nobody:nothing@127.0.0.1:1",
                "cache_url": "redis://127.0.0.1:1/0",
                "broker_url": "redis://127.0.0.1:1/1",
                "jwks_url": "http://127.0.0.1:1/",
                "identity_key_file": identities / "billing.pem",
                "identity_trust_file": identities / "trusted.json",
                "log_level": "error",
                "aged_usage_days": 0,  # books of tests are years old
                **given,
            }
        )

    return make


@pytest.fixture(scope="session")
def mint() -> TokenMint:
    return TokenMint()


@pytest_asyncio.fixture(scope="session")
async def jwks_url(mint: TokenMint) -> AsyncIterator[str]:
    async with mint.served() as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def engines(
    migrated: Callable[[str], str], valkey_server: ValkeyServer, jwks_url: str
) -> AsyncIterator[dict[str, str]]:
    """The settings that name the real engines."""
    with valkey_server.fresh_database() as cache_url:
        await know_ended_sessions(cache_url)
        yield {
            "database_url": migrated("billing"),
            "cache_url": cache_url,
            "jwks_url": jwks_url,
        }


@pytest_asyncio.fixture(scope="session")
async def billing(
    engines: dict[str, str], settings: Callable[..., Settings], mint: TokenMint
) -> AsyncIterator[Billing]:
    """The web process that most tests share; each test has users of its own."""
    async with running_billing(settings(**engines), mint) as billing:
        yield billing


@pytest_asyncio.fixture(scope="session")
async def sandbox(
    engines: dict[str, str], settings: Callable[..., Settings], mint: TokenMint
) -> AsyncIterator[Billing]:
    """The same in a sandbox."""
    async with running_billing(settings(**engines, sandbox=True), mint) as billing:
        yield billing


@pytest_asyncio.fixture(scope="module")
async def auth(identities: Path) -> AsyncIterator[tuple[StandInAuth, str]]:
    """What stands in for auth, and its internal address."""
    stand_in = StandInAuth(Peers.from_file("auth", identities / "trusted.json"))
    async with serving(stand_in) as url:
        yield stand_in, url


@pytest_asyncio.fixture(scope="module")
async def office(
    engines: dict[str, str],
    settings: Callable[..., Settings],
    mint: TokenMint,
    auth: tuple[StandInAuth, str],
) -> AsyncIterator[Billing]:
    """Billing beside auth."""
    async with running_billing(settings(**engines, auth_internal_url=auth[1]), mint) as billing:
        yield billing


@pytest.fixture
def members(auth: tuple[StandInAuth, str]) -> dict[Place, str]:
    """Their roles, as auth knows them."""
    return auth[0].members


@pytest.fixture
def ada() -> UserId:
    """Somebody of whom nothing is known yet."""
    return UserId(uuid4())


@pytest.fixture
def consume(consumer: Consumer) -> Callable[[Sequence[Fact[UsageRecorded]]], asyncio.Task[None]]:
    """Give billing's worker a batch of usage, beside whatever else it does."""

    def give(facts: Sequence[Fact[UsageRecorded]]) -> asyncio.Task[None]:
        return asyncio.create_task(take_in(consumer, a_message(facts)))

    return give
