"""Nothing of a deleted user's keys is left, and what runs on them hears of it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.keyvault.domain.errors import KeyNotFound
from services.keyvault.domain.owner import Owner
from shared.erasure import ErasureId
from shared.events.key import KeyRevoked
from shared.events.user import UserForgotten
from tests.support.keyvault import a_grant, ada, an_open_desk, grace

KEY = "sk-marked0123456789abcdef"
ERASURE = ErasureId(uuid4())


async def test_keys_data_key_and_trail_are_gone_and_only_theirs() -> None:
    desk = await an_open_desk()
    for user in (ada, grace):
        for provider in ("openai", "elevenlabs"):
            await desk.store_key(provider, KEY, by=user, tier="free")
    await desk.revoke_key("elevenlabs", by=ada, tier="free")

    await desk.forget_user.begin([(ada, ERASURE)])

    assert {owner for owner, _ in desk.store.keys} == {Owner.user(grace)}
    assert set(desk.store.data_keys) == {Owner.user(grace)}
    assert {line.owner for line in desk.store.trail} == {Owner.user(grace)}
    with pytest.raises(KeyNotFound):
        await desk.use_key(a_grant(), caller=ada, provider="openai")


async def test_each_live_key_is_revoked_and_then_the_user_forgotten() -> None:
    desk = await an_open_desk()
    await desk.store_key("openai", KEY, by=ada, tier="pro")
    await desk.store_key("gemini", KEY, by=ada, tier="pro")
    await desk.revoke_key("gemini", by=ada, tier="pro")
    desk.store.published.clear()

    await desk.forget_user.begin([(ada, ERASURE)])

    (revoked, _, tier), (forgotten, _, _) = desk.store.published
    assert isinstance(revoked, KeyRevoked)
    assert (revoked.provider, revoked.key_version, tier) == ("openai", 1, "pro")
    assert forgotten == UserForgotten(user_id=ada, erasure_id=ERASURE, service="keyvault")


async def test_a_key_stored_with_a_token_that_outlived_its_account_goes_too() -> None:
    desk = await an_open_desk()
    await desk.forget_user.begin([(ada, ERASURE)])
    await desk.store_key("openai", KEY, by=ada, tier="free")
    await desk.forget_user.watch()
    assert desk.store.keys == {}
    assert desk.store.data_keys == {}
