"""Storing a key."""

from __future__ import annotations

import pytest

from services.keyvault.domain.audit import Kind
from services.keyvault.domain.errors import UnknownProvider, VaultSealed
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import Status
from services.keyvault.domain.secret import OpenedSecret
from services.keyvault.domain.vault import Vault
from shared.events.key import KeyRevoked, KeyValidationRequested
from tests.support.keyvault import NOON, VALID, Desk, a_keyring, ada, an_open_desk, grace, roots_of

SECRET = "sk-marked-0123456789-abcd"


async def stored_secret(desk: Desk, provider: str = "openai") -> str:
    key = desk.store.key(provider)
    assert key.secret is not None
    data_key = desk.store.data_keys[key.owner]
    roots = roots_of(a_keyring())
    async with OpenedSecret(roots, data_key, key.name, key.secret.envelope) as secret:
        return secret.decode()


async def test_a_key_is_stored_sealed_and_waits_for_its_check() -> None:
    desk = await an_open_desk()

    key = await desk.store_key("openai", SECRET, by=ada, tier="pro")

    assert (key.status, key.hint, key.version) == (Status.PENDING, "…abcd", 1)
    assert await stored_secret(desk) == SECRET
    assert SECRET not in repr(vars(desk.store))


async def test_the_request_for_a_check_goes_to_the_queue_of_the_callers_tier() -> None:
    desk = await an_open_desk()

    key = await desk.store_key("openai", SECRET, by=ada, tier="enterprise")

    assert desk.store.published == [
        (
            KeyValidationRequested(user_id=ada, key_id=key.id, provider="openai", key_version=1),
            ada,
            "enterprise",
        )
    ]


async def test_storing_stands_in_the_trail() -> None:
    desk = await an_open_desk()

    await desk.store_key("openai", SECRET, by=ada, tier="free")

    (line,) = desk.store.trail
    assert (line.kind, line.owner, line.provider, line.at) == (
        Kind.STORED,
        Owner.user(ada),
        "openai",
        NOON,
    )


async def test_another_key_takes_the_place_of_the_first_under_a_higher_version() -> None:
    desk = await an_open_desk()
    first = await desk.store_key("openai", SECRET, by=ada, tier="free")

    second = await desk.store_key("openai", f"{SECRET}-other", by=ada, tier="free")

    assert (second.id, second.version) == (first.id, 2)
    assert await stored_secret(desk) == f"{SECRET}-other"


async def test_what_runs_on_a_replaced_key_is_told_to_end_and_nothing_else_is() -> None:
    desk = await an_open_desk()
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    assert desk.store.events(KeyRevoked) == []

    await desk.store_key("openai", f"{SECRET}-other", by=ada, tier="free")
    await desk.revoke_key("openai", by=ada, tier="free")
    await desk.store_key("openai", SECRET, by=ada, tier="free")

    told = [event for event in desk.store.events(KeyRevoked) if isinstance(event, KeyRevoked)]
    assert [(event.user_id, event.provider, event.key_version) for event in told] == [
        (ada, "openai", 1),  # replaced
        (ada, "openai", 2),  # withdrawn
    ]


async def test_the_same_key_again_keeps_its_version_and_what_is_known_of_it() -> None:
    desk = await an_open_desk()
    first = await desk.store_key("openai", SECRET, by=ada, tier="free")
    async with desk.work() as work:
        await work.keys.save(first.judged(VALID, NOON))

    again = await desk.store_key("openai", SECRET, by=ada, tier="free")

    assert (again.version, again.status) == (1, Status.PENDING)
    assert again.models == VALID.models
    assert len(desk.store.events(KeyValidationRequested)) == 2


async def test_all_keys_of_an_owner_lie_under_one_data_key_and_nobody_elses() -> None:
    desk = await an_open_desk()
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    await desk.store_key("gemini", SECRET, by=ada, tier="free")
    await desk.store_key("openai", SECRET, by=grace, tier="free")

    used = {
        (key.owner.id, key.secret.data_key_id) for key in desk.store.keys.values() if key.secret
    }

    assert len(used) == 2


async def test_no_provider_we_do_not_speak_to() -> None:
    desk = await an_open_desk()
    with pytest.raises(UnknownProvider):
        await desk.store_key("mistral", SECRET, by=ada, tier="free")
    assert not desk.store.keys


async def test_nothing_is_stored_while_the_vault_is_sealed() -> None:
    desk = Desk(vault=Vault())
    with pytest.raises(VaultSealed):
        await desk.store_key("openai", SECRET, by=ada, tier="free")
    assert not desk.store.keys
