"""What the keyvault keeps, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.keyvault.actions import LimitChecks, StoreKey
from services.keyvault.domain.audit import AuditEntry, Kind, entry_about
from services.keyvault.domain.canary import canaries_of
from services.keyvault.domain.fingerprint import Fingerprint
from services.keyvault.domain.key_use import KeyUse
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import LIVE, USABLE, ProviderKey, Status, new_key
from services.keyvault.domain.secret import DataKey, SealedSecret, new_data_key
from services.keyvault.domain.vault import Vault
from services.keyvault.storage.key_uses import SqlKeyUses
from services.keyvault.storage.tables import metadata
from services.keyvault.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database
from shared.db.engine import sync_engine
from shared.db.migrations import upgrade
from shared.ids import UserId, uuid7
from shared.settings import service_database_url
from shared.vendors.base import LIMITED
from tests.integration.keyvault.harness import Surroundings, a_user
from tests.support.keyvault import NOON, VALID, a_keyring, roots_of


def a_key(owner: Owner, data_key: DataKey, provider: str = "openai") -> ProviderKey:
    secret = SealedSecret(data_key.id, b"sealed", Fingerprint(1, b"0" * 16))
    return new_key(owner, provider, tier="free", at=NOON).holding(
        secret, hint="…abcd", tier="free", at=NOON
    )


async def stored(
    database: Database, provider: str = "openai", **parts: object
) -> tuple[Owner, ProviderKey]:
    """A key of somebody new."""
    owner = Owner.user(a_user())
    data_key = await new_data_key(roots_of(a_keyring()), owner)
    key = replace(a_key(owner, data_key, provider), **parts)  # type: ignore[arg-type]
    async with SqlWork(database) as work:
        # Where a vault has begun, there is one already.
        await work.canaries.add(await canaries_of(roots_of(a_keyring())))
        await work.data_keys.add(data_key)
        await work.keys.save(key)
    return owner, key


def test_migrations_make_the_tables_that_are_declared(around: Surroundings) -> None:
    url = service_database_url(around.database_url, "keyvault")
    upgrade("keyvault", url)
    engine = sync_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


async def test_a_key_comes_back_as_it_was_saved(database: Database) -> None:
    owner, key = await stored(database)
    for changed in (
        key,
        key.judged(VALID, NOON),
        key.judged(VALID, NOON).judged(LIMITED, NOON + timedelta(hours=1)),
        key.check_requested(tier="pro", at=NOON),
    ):
        async with SqlWork(database) as work:
            await work.keys.save(changed)
        async with SqlWork(database) as work:
            assert await work.keys.find(owner, "openai") == changed
            assert await work.keys.of(owner) == [changed]


async def test_a_withdrawn_key_is_found_but_not_listed(database: Database) -> None:
    owner, key = await stored(database)
    async with SqlWork(database) as work:
        await work.keys.save(key.revoked(NOON))
        await work.data_keys.shred(owner)
    async with SqlWork(database) as work:
        assert await work.keys.of(owner) == []
        assert await work.keys.find(owner, "openai") == key.revoked(NOON)
        assert await work.data_keys.of(owner) is None


async def test_a_data_key_comes_back_as_it_was_added(database: Database) -> None:
    owner = Owner.user(a_user())
    data_key = await new_data_key(roots_of(a_keyring()), owner)
    async with SqlWork(database) as work:
        assert await work.data_keys.of(owner) is None
        await work.data_keys.add(data_key)
        assert await work.data_keys.of(owner) == data_key
        assert await work.data_keys.any_exists()


async def test_the_database_itself_refuses_half_a_secret(database: Database) -> None:
    owner, _ = await stored(database)
    for change in (
        "envelope = null",
        "status = 'revoked'",
        "fingerprint = null",
        "version = 0",
        "status = 'fine'",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await database.execute(
                f"update provider_key set {change} where owner_id = $1", owner.id
            )


async def test_two_first_keys_at_once_share_one_data_key(database: Database) -> None:
    vault = Vault()
    vault.open(roots_of(a_keyring()))
    clock, user = SystemClock(), a_user()
    store = StoreKey(lambda: SqlWork(database), vault, clock, LimitChecks(clock, 0))

    await asyncio.gather(
        *(
            store(provider, f"secret-of-{provider}-{turn}", by=user, tier="free")
            for provider in ("openai", "gemini", "anthropic", "elevenlabs")
            for turn in range(3)
        )
    )

    async with SqlWork(database) as work:
        keys = await work.keys.of(Owner.user(user))
    assert [key.version for key in keys] == [3, 3, 3, 3]
    assert len({key.secret.data_key_id for key in keys if key.secret}) == 1


async def test_keys_are_listed_by_provider(database: Database) -> None:
    owner, _ = await stored(database, "openai")
    async with SqlWork(database) as work:
        data_key = await work.data_keys.of(owner)
        assert data_key is not None
        for provider in ("gemini", "anthropic"):
            await work.keys.save(a_key(owner, data_key, provider))
    async with SqlWork(database) as work:
        listed = [key.provider for key in await work.keys.of(owner)]
    assert listed == ["anthropic", "gemini", "openai"]


async def test_each_due_key_is_claimed_by_one_of_many(fresh_database: Database) -> None:
    keys = {(await stored(fresh_database, next_check_at=NOON))[1].id for _ in range(20)}
    await stored(fresh_database, next_check_at=None)
    await stored(fresh_database, next_check_at=NOON + timedelta(hours=1))

    async def claim() -> list[ProviderKey]:
        async with SqlWork(fresh_database) as work:
            due = await work.keys.claim_due(
                NOON, put_off_until=NOON + timedelta(minutes=10), most=7
            )
            await asyncio.sleep(0)
            return list(due)

    claimed = [key for batch in await asyncio.gather(*(claim() for _ in range(4))) for key in batch]

    assert len(claimed) == len({key.id for key in claimed}) == 20
    assert {key.id for key in claimed} == keys
    assert {key.next_check_at for key in claimed} == {NOON + timedelta(minutes=10)}
    assert {key.check_requested_at for key in claimed} == {NOON}
    assert await claim() == []


async def test_the_trail_is_paged_by_owner(database: Database) -> None:
    owner, key = await stored(database)
    other, _ = await stored(database)
    by = UserId(owner.id)
    entries = [entry_about(key, Kind.STORED, NOON, by=by, request_id=f"r{n}") for n in range(5)]
    async with SqlWork(database) as work:
        for entry in entries:
            await work.audit.add(entry)
        await work.audit.add(replace(entries[0], owner=other, id=uuid7()))

    async with SqlWork(database) as work:
        newest = await work.audit.page(owner, before=None, most=3)
        rest = await work.audit.page(owner, before=newest[-1].id, most=3)

    assert [*newest, *rest] == entries[::-1]


async def test_first_canaries_go_in_once(fresh_database: Database) -> None:
    one = await canaries_of(roots_of(a_keyring(1)))
    other = await canaries_of(roots_of(a_keyring(1, environment="other")))

    async def begin(canaries: object) -> None:
        async with SqlWork(fresh_database) as work:
            await work.canaries.add_first(canaries)  # type: ignore[arg-type]

    await asyncio.gather(begin(one), begin(other), begin(one), begin(other))

    async with SqlWork(fresh_database) as work:
        kept = list(await work.canaries.all())
    assert len(kept) == 2
    assert {c.proof for c in kept} in ({c.proof for c in one}, {c.proof for c in other})


def a_use(owner: Owner, **parts: object) -> KeyUse:
    use = KeyUse(Kind.USED, owner, "openai", "chat", "request-1", NOON, grant_id=uuid7())
    return replace(use, **parts)  # type: ignore[arg-type]


async def trail_of(database: Database, owner: Owner) -> list[AuditEntry]:
    async with SqlWork(database) as work:
        return list(await work.audit.page(owner, before=None, most=100))


async def test_a_use_is_noted_and_the_secret_found_in_one_step(database: Database) -> None:
    owner, key = await stored(database)
    assert key.secret is not None

    found = await SqlKeyUses(database).note(a_use(owner), if_status=USABLE)

    assert found is not None
    assert (found.is_noted, found.status, found.envelope) == (True, Status.PENDING, b"sealed")
    assert found.name == key.name
    assert found.data_key is not None
    assert (found.data_key.id, found.data_key.kek_version) == (key.secret.data_key_id, 1)
    (line,) = await trail_of(database, owner)
    assert (line.kind, line.service, line.key_id) == (Kind.USED, "chat", key.id)


async def test_a_use_is_not_noted_twice(database: Database) -> None:
    owner, _ = await stored(database)
    use = a_use(owner)
    uses = SqlKeyUses(database)

    first = await uses.note(use, if_status=USABLE)
    again = await uses.note(replace(use, id=uuid7()), if_status=USABLE)

    assert first is not None
    assert again is not None
    assert (first.is_noted, again.is_noted) == (True, False)
    assert len(await trail_of(database, owner)) == 1


async def test_our_own_checks_have_no_grant_and_repeat(database: Database) -> None:
    owner, _ = await stored(database)
    for _ in range(2):
        found = await SqlKeyUses(database).note(
            a_use(owner, grant_id=None, kind=Kind.VALIDATED, id=uuid4()), if_status=LIVE
        )
        assert found is not None
        assert found.is_noted
    assert len(await trail_of(database, owner)) == 2


async def test_what_does_not_fit_is_found_but_not_noted(database: Database) -> None:
    owner, key = await stored(database)
    uses = SqlKeyUses(database)
    for use, statuses in (
        (a_use(owner, version=2), USABLE),
        (a_use(owner), {Status.VALID}),
        (a_use(owner), set[Status]()),
    ):
        found = await uses.note(use, if_status=statuses)
        assert found is not None
        assert (found.is_noted, found.name.version) == (False, key.version)
    assert await uses.note(a_use(owner, provider="gemini"), if_status=USABLE) is None
    assert await uses.note(a_use(Owner("organisation", owner.id)), if_status=USABLE) is None
    assert await trail_of(database, owner) == []


async def test_a_withdrawn_key_is_found_empty(database: Database) -> None:
    owner, key = await stored(database)
    async with SqlWork(database) as work:
        await work.keys.save(key.revoked(NOON))
        await work.data_keys.shred(owner)

    found = await SqlKeyUses(database).note(a_use(owner), if_status=USABLE)

    assert found is not None
    assert (found.is_noted, found.is_live, found.envelope) == (False, False, None)
