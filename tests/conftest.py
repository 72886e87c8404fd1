"""What holds for every test: real engines, only loopback, no leftovers of the environment."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
from xdist.scheduler import LoadScopeScheduling

import shared.limits.admission
import shared.valkey
from shared.db.migrations import upgrade
from shared.settings import service_database_url
from tests.support.engines import (
    PostgresServer,
    postgres_server,
    rabbitmq_server,
    valkey_server,
    valkey_url,
)

__all__ = ["postgres_server", "rabbitmq_server", "valkey_server", "valkey_url"]

_TESTS = Path(__file__).parent

# How long an example takes says something of the machine, not of what is tested.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

# A developer's own keys and settings must neither help nor hurt a test.
_FOREIGN = ("_API_KEY", "_BASE_URL", "DATABASE_URL", "CACHE_URL", "BROKER_URL", "PROVIDER_")


class _ByRoom(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Tests that share servers run in one process, where tests run in several: those of the whole
    suite, of the gateway, and those of each folder of integration tests."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        rooms = Path(file).parts[1:-1]
        return file if rooms[0] == "unit" else "-".join(rooms[:2])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """In the order of their folders: those of the whole suite, which take long, come early."""
    config.option.loadscopereorder = False
    return _ByRoom(config, log)


def pytest_collection_finish() -> None:
    """Thousands of tests are no garbage: to look through them again and again would stop the
    servers that run in this process for longer than they may take to answer."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_environment() -> None:
    """Forget what the surroundings have set for the vendors' SDKs and for our services."""
    for name in list(os.environ):
        if any(mark in name for mark in _FOREIGN):
            del os.environ[name]
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"


@pytest.fixture(scope="session", autouse=True)
def patience_with_valkey() -> Iterator[None]:
    """A machine that is busy with tests may leave Valkey without a processor for longer than a
    service waits for it, and free users would be refused. Those tests that stop it see all the same
    that it is given up."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (shared.valkey, shared.limits.admission):
            patch.setattr(module, "TIMEOUT_SECONDS", 1.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def loggers_that_can_be_captured() -> Iterator[None]:
    """`capture_logs` does not hear a logger that has kept its way of writing, as ours do where a
    service was started in this process before."""
    configure = structlog.configure

    def uncached(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    structlog.configure = uncached  # type: ignore[assignment]
    yield
    structlog.configure = configure


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that a test has run in this process decides what is logged for itself alone: what
    it leaves out would be missing where the next test looks for it."""
    is_configured, before = structlog.is_configured(), structlog.get_config()
    yield
    if is_configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def only_loopback() -> Iterator[None]:
    """A test that reaches beyond this machine fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and isinstance(address, tuple):
            host = str(address[0])
            if not (host.startswith("127.") or host in {"localhost", "::1"}):
                raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign,assignment]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def migrated(postgres_server: PostgresServer) -> Callable[[str], str]:
    """Give a service its migrated database, once a session; answers the `DATABASE_URL`."""
    done: set[str] = set()

    def migrate(service: str) -> str:
        if service not in done:
            postgres_server.create_database(f"companion_{service}")
            upgrade(service, service_database_url(postgres_server.url, service))
            done.add(service)
        return postgres_server.url

    return migrate
