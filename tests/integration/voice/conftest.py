"""The real voice service, in process, on real engines, before a simulated vendor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from shared.db.database import Database, open_database
from shared.db.migrations import upgrade
from tests.support.egress import egress_to
from tests.support.engines import PostgresServer, ValkeyServer
from tests.support.simulator.process import RunningSimulator, running_simulator
from tests.support.tokens import TokenMint, write_identities
from tests.support.voice_service import Surroundings, Voice, running_voice


@pytest.fixture(scope="session")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator() as simulator:
        yield simulator


@pytest_asyncio.fixture(scope="session")
async def surroundings(
    migrated: Callable[[str], str],
    valkey_server: ValkeyServer,
    simulator: RunningSimulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Surroundings]:
    directory = tmp_path_factory.mktemp("identities")
    identities = write_identities(directory)
    mint = TokenMint()
    egress = egress_to(simulator, trusted_identities=directory / "trusted.json", mint=mint)
    async with AsyncExitStack() as stack:
        yield Surroundings(
            database_url=migrated("voice"),
            cache_url=stack.enter_context(valkey_server.fresh_database()),
            simulator=simulator,
            egress=await stack.enter_async_context(egress.running()),
            mint=mint,
            jwks_url=await stack.enter_async_context(mint.served()),
            identity_key_file=identities["voice"],
            identity_trust_file=directory / "trusted.json",
        )


@pytest_asyncio.fixture(scope="session")
async def voice(surroundings: Surroundings) -> AsyncIterator[Voice]:
    """The voice process that most tests share; each test has users of its own."""
    async with running_voice(surroundings) as voice:
        yield voice


@pytest_asyncio.fixture
async def database(
    postgres_server: PostgresServer,
) -> AsyncIterator[Database]:
    """An empty database of voice's."""
    template = postgres_server.ensure_template("template_voice", lambda url: upgrade("voice", url))
    with postgres_server.fresh_database(template=template) as url:
        async with open_database(url, connections=20, application="tests") as database:
            yield database
