"""From a stored key to its vendor's word: outbox, relay, broker, worker and a stand-in vendor."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import redis

from services.keyvault.domain.keyring import new_keyring_document
from services.keyvault.tasks import listen
from services.keyvault.wiring import Wired
from shared.db.database import Database
from shared.tiers import TIERS
from tests.integration.keyvault.harness import Keyvault, Surroundings, a_user
from tests.integration.keyvault.workers import VENDORS, Worker, working
from tests.support.engines import ValkeyServer
from tests.support.keyvault import write_keyring
from tests.support.queues import taken_from
from tests.support.simulator.process import RunningSimulator, running_simulator


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
async def shared_worker(
    around: Surroundings,
    keyvault: Keyvault,
    simulator: RunningSimulator,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Worker]:
    copy = tmp_path_factory.mktemp("worker") / "keyring.json"
    write_keyring(copy, around.keyring_file.read_text())
    urls = {name: getattr(simulator, name) for name in VENDORS}
    with valkey_server.fresh_database() as broker_url:
        async with working(
            replace(around, broker_url=broker_url, provider_urls=urls, keyring_file=copy)
        ) as worker:
            yield worker


@pytest.fixture
async def worker(shared_worker: Worker, database: Database) -> Worker:
    """A worker with nothing to do yet."""
    await database.execute("delete from outbox")
    await database.execute("update provider_key set next_check_at = null")
    with redis.Redis.from_url(shared_worker.broker_url) as client:
        for tier in TIERS:
            client.delete(f"keyvault.validation.{tier}", f"listener.keys.{tier}")
    return shared_worker


@pytest.mark.parametrize("provider", VENDORS)
@pytest.mark.parametrize(
    ("mark", "status"),
    [
        ("good", "valid"),
        ("invalid", "invalid"),
        ("limited", "limited"),
        ("noquota", "limited"),
        ("unreachable", "unreachable"),
        ("unreachable-reset", "unreachable"),
    ],
)
async def test_each_vendors_word_is_understood(
    worker: Worker, provider: str, mark: str, status: str
) -> None:
    user = a_user()
    await worker.keyvault.put(user, f"sim-{mark}-0123456789", provider=provider)
    assert (await worker.key(user, provider))["status"] == "pending"

    await worker.work()

    key = await worker.key(user, provider)
    assert key["status"] == status
    assert (key["last_error"] is None) is (status == "valid")
    assert (key["last_validated_at"] is None) is (status == "unreachable")
    assert bool(key["capabilities"]) is (status == "valid")
    (event,) = await worker.told()
    assert event["data"]["status"] == status
    assert event["data"]["provider"] == provider
    assert event["subject"] == str(user)
    # Whatever may work is given out, and nothing else.
    service = "voice" if provider == "elevenlabs" else "chat"
    answer = await worker.keyvault.egress(
        user, f"{provider}/v1/x", provider=provider, service=service
    )
    assert answer.status_code == (409 if status == "invalid" else 200)


async def test_a_voice_key_tells_its_plan_and_its_voices(worker: Worker) -> None:
    user = a_user()
    await worker.keyvault.put(user, "sim-good-0123456789", provider="elevenlabs")
    await worker.work()
    key = await worker.key(user, "elevenlabs")
    assert {"text_to_speech", "voice_cloning", "realtime"} <= set(key["capabilities"])
    assert "eleven_flash_v2_5" in key["models"]
    assert key["details"] | {"voices": 0} == {
        "plan": "pro",
        "plan_status": "active",
        "characters_used": 1000,
        "characters_limit": 600_000,
        "voice_slots": 30,
        "voice_slots_used": 0,
        "voices": 0,
        "cloned_voices": 0,
    }
    assert key["details"]["voices"] > 1


async def test_a_check_costs_its_owner_nothing(worker: Worker, simulator: RunningSimulator) -> None:
    for provider in VENDORS:
        secret = f"sim-good-{uuid4().hex}"
        await worker.keyvault.put(a_user(), secret, provider=provider)
        await worker.work()
        assert simulator.last_headers(provider)
        assert simulator.served(key=secret) == []  # nothing was generated


async def test_a_valid_key_tells_its_models(worker: Worker) -> None:
    user = a_user()
    await worker.keyvault.put(user, "sim-good-0123456789")
    await worker.work()
    key = await worker.key(user)
    (event,) = await worker.told()
    assert "gpt-6-luna" in key["models"]
    assert event["data"]["models"] == key["models"]


async def test_each_tier_has_a_queue_of_its_own(worker: Worker) -> None:
    for tier in ("free", "pro", "enterprise"):
        await worker.keyvault.put(a_user(), "sim-good-0123456789", tier=tier)
    await worker.send()
    for tier in ("free", "pro", "enterprise"):
        (batch,) = taken_from(worker.broker_url, f"keyvault.validation.{tier}")
        assert [event["tier"] for event in batch["events"]] == [tier]


async def test_a_message_that_comes_twice_is_told_once(worker: Worker) -> None:
    await worker.keyvault.put(a_user(), "sim-good-0123456789")
    await worker.work(twice=True)
    assert len(await worker.told()) == 1


async def test_many_requests_in_one_batch_ask_once_per_key(worker: Worker) -> None:
    user = a_user()
    headers = worker.keyvault.around.mint.headers(user)
    await worker.keyvault.put(user, "sim-good-0123456789")
    for _ in range(5):
        await worker.keyvault.public.post("/keys/openai/validate", headers=headers)
    await worker.work()
    assert len(await worker.told()) == 1


async def test_no_user_has_a_vendor_asked_without_end(
    worker: Worker, simulator: RunningSimulator, database: Database
) -> None:
    user = a_user()
    headers = worker.keyvault.around.mint.headers(user)
    await worker.keyvault.put(user, "sim-good-0123456789")
    answers = []
    for _ in range(25):
        # Twice: the second waits for the same word.
        answers += [
            await worker.keyvault.public.post("/keys/openai/validate", headers=headers)
            for _ in range(2)
        ]
        await worker.work()
    lines = await database.fetch(
        "select kind from audit_entry where owner_id = $1 and kind = 'validated'", user
    )
    assert len(lines) == 20
    assert [answer.status_code for answer in answers] == [202] * 40 + [429] * 10
    assert answers[-1].json()["code"] == "key_checks_reached"
    assert int(answers[-1].headers["retry-after"]) > 0
    waiting = "select check_requested_at from provider_key where owner_id = $1"
    assert (await database.fetch(waiting, user))[0]["check_requested_at"] is None


async def test_a_vendor_that_was_out_of_reach_is_asked_again_by_the_clock(
    worker: Worker, simulator: RunningSimulator, database: Database
) -> None:
    user = a_user()
    await worker.keyvault.put(user, "sim-good-0123456789")
    simulator.add_fault("unavailable", vendor="openai", key="sim-good-0123456789", times=1)
    await worker.work()
    assert (await worker.key(user))["status"] == "unreachable"

    assert await worker.wired.actions.request_due_validations() == 0
    await database.execute(
        "update provider_key set next_check_at = now() where owner_id = $1", user
    )
    await listen.jobs["keyvault.jobs.request_due_validations"].run(worker.wired.actions)
    await worker.work()

    assert (await worker.key(user))["status"] == "valid"


async def test_requests_wait_for_a_sealed_vault(worker: Worker) -> None:
    user = a_user()
    keyring_file = worker.keyvault.around.keyring_file
    right = keyring_file.read_text()
    await worker.keyvault.put(user, "sim-good-0123456789")
    write_keyring(keyring_file, new_keyring_document())

    work = asyncio.create_task(worker.work())
    async with asyncio.timeout(5):
        while worker.wired.checks and not await _sealed(worker.wired):
            await asyncio.sleep(0.01)
    write_keyring(keyring_file, right)
    await work

    assert (await worker.key(user))["status"] == "valid"


async def _sealed(wired: Wired) -> bool:
    return wired.actions.use_key.vault.sealed_because == "keyring_of_another_database"


async def test_no_key_ever_reaches_the_broker(worker: Worker) -> None:
    secret = "sim-good-marked-0123456789"
    await worker.keyvault.put(a_user(), secret)
    await worker.send()
    with redis.Redis.from_url(worker.broker_url) as client:
        dump = [_content(client, name) for name in client.scan_iter(count=1000)]
    assert any(b"key.validation_requested" in content for content in dump)
    assert not any(secret.encode() in content for content in dump)


def _content(client: Any, name: bytes) -> bytes:
    kind = client.type(name)
    read = {b"list": lambda: client.lrange(name, 0, -1), b"hash": lambda: client.hgetall(name)}
    read |= {b"set": lambda: client.smembers(name), b"string": lambda: client.get(name)}
    return name + repr(read.get(kind, lambda: client.zrange(name, 0, -1))()).encode()


def test_the_worker_process_knows_its_tasks_and_queues(around: Surroundings) -> None:
    program = (
        "import json; from services.keyvault.worker import app;"
        "print(json.dumps([sorted(n for n in app.tasks if not n.startswith('celery.')),"
        "sorted(q.name for q in app.conf.task_queues)]))"
    )
    settings = {
        "DATABASE_URL": around.database_url,
        "CACHE_URL": around.broker_url,
        "BROKER_URL": around.broker_url,
        "JWKS_URL": around.jwks_url,
        "IDENTITY_KEY_FILE": str(around.identities / "keyvault.pem"),
        "IDENTITY_TRUST_FILE": str(around.identities / "trusted.json"),
        "KEYVAULT_KEYRING_FILE": str(around.keyring_file),
    }
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    tasks, queues = json.loads(told.stdout.splitlines()[-1])
    names = ["drop_old_seats", "drop_old_uses", "forget_old_events", "forget_users"]
    names += ["report_keyring", "request_due_validations", "watch_forgotten_users"]
    jobs = [f"keyvault.jobs.{name}" for name in names]
    heard = ("organisation.deleted", "seat.assigned", "seat.released", "user.deleted")
    assert tasks == ["key.validation_requested", *jobs, *heard]
    assert queues == [
        "keyvault.jobs",
        "keyvault.organisations.enterprise",
        "keyvault.organisations.free",
        "keyvault.organisations.pro",
        "keyvault.users.enterprise",
        "keyvault.users.free",
        "keyvault.users.pro",
        "keyvault.validation.enterprise",
        "keyvault.validation.free",
        "keyvault.validation.pro",
    ]
