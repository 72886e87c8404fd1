"""How full Valkey is, as Prometheus is told it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from structlog.testing import capture_logs

from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.programs import SERVICES
from shared.background import running_beside
from shared.http.saturation import watch_valkey
from shared.valkey import open_cache
from tests.support.engines import ValkeyServer, running_valkey

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with running_valkey(tmp_path_factory.mktemp("memory")) as server:
        yield server


@pytest.fixture
async def operator(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    cache = open_cache(valkey.url)
    await cache.flushall()
    yield cache
    await cache.config_set("maxmemory", "1gb")
    await cache.config_set("maxmemory-policy", "noeviction")
    await cache.aclose()


def shown(name: str, state: str) -> float | None:
    return REGISTRY.get_sample_value(f"companion_valkey_{name}", {"state": state})


@asynccontextmanager
async def watched(cache: Redis) -> AsyncIterator[None]:
    async with running_beside(watch_valkey(cache, every_seconds=0.01)):
        await asyncio.sleep(0.1)
        yield
        await asyncio.sleep(0.1)


async def test_it_tells_what_is_used_of_what_there_is(operator: Redis) -> None:
    await operator.config_set("maxmemory", 100 * MEBIBYTE)
    async with watched(operator):
        before = shown("memory_bytes", "used")
        assert before is not None
        await operator.set("ballast", b"x" * 10 * MEBIBYTE)
    after = shown("memory_bytes", "used")
    assert after is not None and 9 * MEBIBYTE < after - before < 40 * MEBIBYTE
    assert shown("memory_bytes", "most") == 100 * MEBIBYTE
    assert shown("keys", "evicted") == 0


async def test_it_tells_of_keys_that_were_thrown_away(operator: Redis) -> None:
    used = (await operator.info("memory"))["used_memory"]
    await operator.config_set("maxmemory-policy", "allkeys-lru")
    await operator.config_set("maxmemory", used + MEBIBYTE)
    async with watched(operator):
        for _ in range(200):
            await operator.set(f"ballast:{uuid4()}", b"x" * 16_384)
    evicted = shown("keys", "evicted")
    assert evicted is not None and evicted > 10


async def test_old_numbers_of_one_that_is_away_are_not_shown(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as server:
        cache = open_cache(server.url)
        async with watched(cache):
            assert shown("memory_bytes", "most") is not None
            await asyncio.to_thread(server.child.stop)
        assert shown("memory_bytes", "most") is None
        assert shown("memory_bytes", "used") is None
        assert shown("keys", "evicted") is None
        await cache.aclose()


async def test_of_a_deployments_services_one_may_ask_and_the_others_say_so_once(
    operator: Redis, valkey: ValkeyServer, tmp_path: Path
) -> None:
    deployment = Deployment(tmp_path / "secrets")
    deployment.create(Hosts())
    with SyncRedis.from_url(valkey.url) as console:
        for line in (deployment.root / "valkey" / "users.acl").read_text().splitlines():
            _, name, *rights = line.split()
            if name in SERVICES:
                console.execute_command("ACL", "SETUSER", name, "reset", *rights)
    for service in SERVICES:
        url = (deployment.root / service / "cache_url").read_text().strip()
        login = url.partition("//")[2].rpartition("@")[0]
        at = valkey.url.partition("//")[2].rpartition("@")[2]
        cache = open_cache(f"redis://{login}@{at}")
        with capture_logs() as logged:
            async with watched(cache):
                pass
        said = [line["event"] for line in logged]
        is_asked = service == "auth"
        assert said == ([] if is_asked else ["valkey_tells_nothing"])
        assert (shown("memory_bytes", "most") is not None) == is_asked
        await cache.aclose()
        await operator.acl_deluser(service)
