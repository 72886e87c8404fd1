"""A producer and a listener over each broker, once a session; each test has its own outbox."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from shared.messaging.queues import declare_queues
from tests.support.engines import PostgresServer, RabbitServer
from tests.support.event_service.brokers import Broker, rabbitmq_broker, valkey_broker
from tests.support.event_service.storage import create_tables
from tests.support.event_service.tasks import listen_as
from tests.support.event_service.world import Herald, Scribe

# A message that its worker has not acknowledged comes back after a second instead of five minutes,
# also when a worker was killed just when it gave others back.
SHORT_WAITS = {
    "visibility_timeout": 1,
    "unacked_restore_interval": 0.2,
    "unacked_mutex_expire": 2,
}


@pytest.fixture(scope="session")
def tables(postgres_server: PostgresServer) -> str:
    """A template database with the tables of the test service."""
    return postgres_server.ensure_template("event_service", create_tables)


@pytest.fixture(
    scope="session", params=["valkey", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]
)
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    """Each of the two brokers in turn."""
    with contextlib.ExitStack() as stack:
        if request.param == "valkey":
            running = valkey_broker(tmp_path_factory.mktemp("broker"))
        else:
            server: RabbitServer | None = request.getfixturevalue("rabbitmq_server")
            running = rabbitmq_broker(server)
        yield stack.enter_context(running)


@pytest.fixture(scope="session")
def scribe(
    broker: Broker,
    postgres_server: PostgresServer,
    tables: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scribe]:
    """The listener, its queues declared; no worker runs yet."""
    declare_queues(listen_as("scribe"), broker.url)
    postgres_server.create_database("companion_scribe", template=tables)
    scribe = Scribe(postgres_server.url, broker.url, tmp_path_factory.mktemp("scribe"))
    yield scribe
    scribe.close()
    postgres_server.drop_database("companion_scribe")


@pytest.fixture(scope="session")
def workers(scribe: Scribe) -> Iterator[Scribe]:
    """The listener with a worker for free and one for enterprise; pro is left to each test."""
    running = [
        scribe.start_worker(tier, transport_options=SHORT_WAITS) for tier in ("free", "enterprise")
    ]
    for worker in running:
        worker.wait_until_ready()
    yield scribe
    for worker in running:
        worker.kill()


@pytest.fixture
def herald(broker: Broker, postgres_server: PostgresServer, tables: str) -> Iterator[Herald]:
    """The producer, with an outbox that nobody has used."""
    with postgres_server.fresh_database(template=tables) as url:
        herald = Herald(url, broker.url)
        yield herald
        herald.close()
