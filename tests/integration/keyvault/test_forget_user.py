"""Forgetting and exporting a user of the keyvault, on the real PostgreSQL."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from services.keyvault.actions import ForgetUser
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.vault import Vault
from services.keyvault.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database
from shared.erasure import ErasureId
from tests.integration.keyvault.harness import SECRET, Keyvault, a_user

_TRACES = """
select (select count(*) from provider_key where owner_id = $1) as keys,
       (select count(*) from data_key where owner_id = $1) as data_keys,
       (select count(*) from audit_entry where owner_id = $1) as lines
"""
_AUDIT = """
insert into audit_entry (id, kind, owner_type, owner_id, provider, key_id, key_version, service, at)
select gen_random_uuid(), 'used', 'user', $1, 'openai', $1, 1, 'chat', now()
from generate_series(1, 1500)
"""
_SOMEBODY_WAITS = """
select exists (select from pg_locks where locktype = 'advisory' and not granted) as waits
"""
_TOLD = "select envelope->>'type' as type from outbox where envelope->>'subject' = $1"


async def traces_of(database: Database, user: object) -> tuple[int, ...]:
    row = await database.fetchrow(_TRACES, user)
    assert row is not None
    return tuple(row)


async def test_keys_data_key_and_a_long_trail_are_gone(
    keyvault: Keyvault, database: Database
) -> None:
    ada, grace = a_user(), a_user()
    for user in (ada, grace):
        for provider in ("openai", "elevenlabs"):
            assert (await keyvault.put(user, provider=provider)).status_code == 202
    await database.execute(_AUDIT, ada)

    await ForgetUser(lambda: SqlWork(database), SystemClock(), Vault()).begin(
        [(ada, ErasureId(uuid4()))]
    )

    assert await traces_of(database, ada) == (0, 0, 0)
    assert await traces_of(database, grace) == (2, 1, 2)
    told = [row["type"] for row in await database.fetch(_TOLD, str(ada))]
    assert sorted(told)[:2] == ["key.revoked", "key.revoked"]
    assert told.count("user.forgotten") == 1
    assert (await keyvault.egress(ada)).status_code == 404


async def test_a_key_that_is_being_stored_goes_too(keyvault: Keyvault, database: Database) -> None:
    ada = a_user()
    assert (await keyvault.put(ada, provider="openai")).status_code == 202
    forget = ForgetUser(lambda: SqlWork(database), SystemClock(), Vault())
    async with SqlWork(database) as storing:
        await storing.keys.lock(Owner.user(ada))
        forgetting = asyncio.create_task(forget.begin([(ada, ErasureId(uuid4()))]))
        async with asyncio.timeout(20):
            while not (await database.fetch(_SOMEBODY_WAITS))[0]["waits"]:
                assert not forgetting.done(), "it did not wait for who stores a key"
                await asyncio.sleep(0.01)
        assert (await traces_of(database, ada))[:2] == (1, 1)
    await forgetting
    assert await traces_of(database, ada) == (0, 0, 0)


async def test_the_export_names_keys_and_their_trail_but_holds_no_key(
    keyvault: Keyvault, database: Database
) -> None:
    ada = a_user()
    await keyvault.put(ada)
    await database.execute(_AUDIT, ada)

    token = keyvault.service("auth").token_for("keyvault")
    answer = await keyvault.internal.get(
        f"/internal/users/{ada}/export", headers={"authorization": f"Bearer {token}"}
    )

    assert answer.status_code == 200
    exported = answer.json()
    assert [key["provider"] for key in exported["keys"]] == ["openai"]
    assert len({line["id"] for line in exported["audit"]}) == 1501
    assert SECRET not in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_only_auth_gets_an_export(keyvault: Keyvault) -> None:
    token = keyvault.service("billing").token_for("keyvault")
    answer = await keyvault.internal.get(
        f"/internal/users/{a_user()}/export", headers={"authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 403
    assert (await keyvault.get(a_user(), f"/internal/users/{a_user()}/export")).status_code == 404
