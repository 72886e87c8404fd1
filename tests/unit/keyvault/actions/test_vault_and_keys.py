"""Opening the vault; showing, withdrawing and tracing keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from services.keyvault.actions.validate_keys import ValidationRequest
from services.keyvault.domain.audit import Kind
from services.keyvault.domain.errors import (
    KeyChecksReached,
    KeyNotFound,
    UnknownProvider,
    VaultSealed,
)
from services.keyvault.domain.provider_key import ANSWER_WITHIN
from shared.errors import DependencyUnavailable
from shared.events.key import KeyRevoked, KeyValidationRequested
from shared.ids import EventId, uuid7
from tests.support.keyvault import (
    VALID,
    Desk,
    MemoryKeyring,
    a_keyring,
    ada,
    an_open_desk,
    example_key,
    grace,
)

SECRET = "sk-marked-0123456789-abcd"


async def test_the_first_start_on_a_fresh_database_begins_the_vault() -> None:
    desk = Desk()
    await desk.examine_vault()
    assert not desk.vault.is_sealed
    assert len(desk.store.canaries) == 2


async def test_without_leave_to_begin_a_fresh_database_stays_sealed() -> None:
    desk = Desk()
    await replace(desk.examine_vault, may_begin=False)()
    assert desk.vault.sealed_because == "canary_missing"
    assert not desk.store.canaries


async def test_a_database_with_data_keys_but_no_canaries_is_never_begun() -> None:
    desk = await an_open_desk()
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    desk.store.canaries.clear()

    await desk.examine_vault()

    assert desk.vault.sealed_because == "canary_missing"
    assert not desk.store.canaries


async def test_a_wrong_keyring_seals_and_a_mended_one_opens_again() -> None:
    desk = await an_open_desk()
    right = desk.source.keyring

    desk.source.keyring = replace(a_keyring(), keys={1: example_key(50)})
    await desk.examine_vault()
    assert desk.vault.sealed_because == "keyring_of_another_database"

    desk.source.keyring = right
    await desk.examine_vault()
    assert not desk.vault.is_sealed


async def test_a_missing_keyring_seals_and_nothing_makes_a_new_one() -> None:
    desk = Desk(source=MemoryKeyring())
    await desk.examine_vault()
    assert desk.vault.sealed_because == "keyring_missing"
    assert not desk.store.canaries


async def test_a_vault_is_sealed_until_it_is_examined() -> None:
    with pytest.raises(VaultSealed):
        await Desk().vault.check()


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_database_out_of_reach_says_nothing_about_the_keyring(is_open: bool) -> None:
    desk = await an_open_desk() if is_open else Desk()
    desk.store.is_down = True
    with pytest.raises(DependencyUnavailable):
        await desk.examine_vault()
    assert desk.vault.is_sealed is not is_open


async def test_a_user_sees_their_own_keys_only() -> None:
    desk = await an_open_desk()
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    await desk.store_key("gemini", SECRET, by=ada, tier="free")

    assert [key.provider for key in await desk.list_keys(by=ada)] == ["openai", "gemini"]
    assert (await desk.show_key("openai", by=ada)).hint == "…abcd"
    assert await desk.list_keys(by=grace) == []
    with pytest.raises(KeyNotFound):
        await desk.show_key("openai", by=grace)


async def test_a_withdrawn_key_is_gone_for_its_owner_and_told_to_everybody() -> None:
    desk = await an_open_desk()
    key = await desk.store_key("openai", SECRET, by=ada, tier="pro")

    await desk.revoke_key("openai", by=ada, tier="pro")

    assert desk.store.published[-1] == (
        KeyRevoked(user_id=ada, key_id=key.id, provider="openai", key_version=1),
        ada,
        "pro",
    )
    assert desk.store.trail[-1].kind is Kind.DELETED
    assert desk.store.key().secret is None
    assert await desk.list_keys(by=ada) == []
    with pytest.raises(KeyNotFound):
        await desk.show_key("openai", by=ada)
    with pytest.raises(KeyNotFound):
        await desk.revoke_key("openai", by=ada, tier="pro")


async def test_only_a_key_that_there_is_can_be_withdrawn() -> None:
    desk = await an_open_desk()
    with pytest.raises(KeyNotFound):
        await desk.revoke_key("openai", by=ada, tier="pro")
    with pytest.raises(UnknownProvider):
        await desk.revoke_key("nobody", by=ada, tier="pro")
    assert not desk.store.published


async def test_the_last_key_takes_its_owners_data_key_with_it() -> None:
    desk = await an_open_desk()
    for provider in ("openai", "gemini"):
        await desk.store_key(provider, SECRET, by=ada, tier="free")

    await desk.revoke_key("openai", by=ada, tier="free")
    assert len(desk.store.data_keys) == 1

    await desk.revoke_key("gemini", by=ada, tier="free")
    assert not desk.store.data_keys


async def test_a_key_can_be_withdrawn_while_the_vault_is_sealed() -> None:
    desk = await an_open_desk()
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    desk.vault.seal("keyring_missing")

    await desk.revoke_key("openai", by=ada, tier="free")

    assert desk.store.key().secret is None


async def test_a_key_stored_after_a_withdrawal_has_a_higher_version() -> None:
    desk = await an_open_desk()
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    await desk.revoke_key("openai", by=ada, tier="free")

    key = await desk.store_key("openai", SECRET, by=ada, tier="free")

    assert key.version == 2


async def test_a_check_asked_for_goes_out_and_takes_nothing_back() -> None:
    desk = await an_open_desk()
    key = await desk.store_key("openai", SECRET, by=ada, tier="free")
    async with desk.work() as work:
        await work.keys.save(key.judged(VALID, desk.clock.now()))

    asked = await desk.request_validation("openai", by=ada, tier="pro")

    assert asked.status.value == "valid"
    assert len(desk.store.events(KeyValidationRequested)) == 2
    assert desk.store.published[-1][2] == "pro"


async def test_whoever_asks_while_a_check_is_under_way_waits_for_that_one() -> None:
    desk = await an_open_desk()
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    for _ in range(3):
        asked = await desk.request_validation("openai", by=ada, tier="free")
        again = await desk.store_key("openai", SECRET, by=ada, tier="free")
        assert asked.status.value == again.status.value == "pending"
    assert len(desk.store.events(KeyValidationRequested)) == 1
    # Another secret's check is another one.
    await desk.store_key("openai", f"{SECRET}-next", by=ada, tier="free")
    assert len(desk.store.events(KeyValidationRequested)) == 2
    # An answer that never came is not waited for without end.
    desk.clock.forward(ANSWER_WITHIN)
    await desk.request_validation("openai", by=ada, tier="free")
    assert len(desk.store.events(KeyValidationRequested)) == 3


async def test_a_check_that_the_clock_asked_for_is_waited_for_as_well() -> None:
    desk = await an_open_desk()
    key = await desk.store_key("openai", SECRET, by=ada, tier="free")
    async with desk.work() as work:
        await work.keys.save(key.judged(VALID, desk.clock.now()))
    desk.clock.forward(timedelta(days=2))
    assert await desk.request_due() == 1
    await desk.request_validation("openai", by=ada, tier="free")
    assert len(desk.store.events(KeyValidationRequested)) == 2


async def test_keys_of_one_owner_are_stored_so_often_in_a_minute_and_no_oftener() -> None:
    desk = await an_open_desk(checks_per_minute=3)
    for number in range(3):
        await desk.store_key("openai", f"{SECRET}-{number}", by=ada, tier="free")
        desk.clock.forward(timedelta(seconds=10))
    kept = desk.store.key(), list(desk.store.published)
    for provider in ("openai", "gemini"):
        with pytest.raises(KeyChecksReached) as refused:
            await desk.store_key(provider, f"{SECRET}-4", by=ada, tier="free")
        assert refused.value.retry_after == timedelta(seconds=30), "then the first is a minute old"
    assert (desk.store.key(), desk.store.published) == kept
    await desk.store_key("openai", SECRET, by=grace, tier="free")
    desk.clock.forward(timedelta(seconds=30, microseconds=1))
    await desk.store_key("openai", f"{SECRET}-4", by=ada, tier="free")
    with pytest.raises(KeyChecksReached):
        await desk.store_key("openai", f"{SECRET}-5", by=ada, tier="free")


async def test_vendors_are_asked_about_keys_of_one_owner_so_often_and_no_oftener() -> None:
    desk = await an_open_desk(checks_per_minute=3)
    key = await desk.store_key("openai", SECRET, by=ada, tier="free")
    for _ in range(3):
        await desk.validate_keys(
            [ValidationRequest(EventId(uuid7()), key.owner, "openai", key.version, "free", None)]
        )
        assert desk.store.key().check_requested_at is None
        if len(desk.checker.asked) < 3:
            await desk.request_validation("openai", by=ada, tier="free")
    with pytest.raises(KeyChecksReached):
        await desk.request_validation("openai", by=ada, tier="free")
    with pytest.raises(KeyChecksReached):
        await desk.store_key("openai", f"{SECRET}-next", by=ada, tier="free")
    assert len(desk.store.events(KeyValidationRequested)) == 3
    desk.clock.forward(timedelta(minutes=1, seconds=1))
    await desk.request_validation("openai", by=ada, tier="free")


async def test_no_check_of_a_key_that_is_not_there_or_can_not_be_opened() -> None:
    desk = await an_open_desk()
    with pytest.raises(KeyNotFound):
        await desk.request_validation("openai", by=ada, tier="free")
    with pytest.raises(UnknownProvider):
        await desk.request_validation("nobody", by=ada, tier="free")
    desk.vault.seal("keyring_missing")
    with pytest.raises(VaultSealed):
        await desk.request_validation("openai", by=ada, tier="free")


async def test_the_trail_is_read_newest_first_and_page_by_page() -> None:
    desk = await an_open_desk()
    for provider in ("openai", "gemini", "anthropic"):
        await desk.store_key(provider, SECRET, by=ada, tier="free")
    await desk.store_key("openai", SECRET, by=grace, tier="free")

    first = await desk.read_audit(by=ada, before=None, most=2)
    rest = await desk.read_audit(by=ada, before=first[-1].id, most=2)

    assert [line.provider for line in [*first, *rest]] == ["anthropic", "gemini", "openai"]
