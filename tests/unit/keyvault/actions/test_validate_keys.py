"""Asking vendors about keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from services.keyvault.actions.validate_keys import ValidationRequest
from services.keyvault.domain.audit import Kind
from services.keyvault.domain.envelope import NotAuthentic
from services.keyvault.domain.errors import VaultSealed
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import Status
from services.keyvault.domain.secret import SealedSecret
from services.keyvault.providers import vendor_check
from shared.erasure import ErasureId
from shared.events.base import current_request_id
from shared.events.key import KeyValidated, KeyValidationRequested
from shared.ids import EventId, UserId, uuid7
from shared.messaging import broker
from shared.messaging.relay import BATCH_SIZE
from shared.vendors import vendors
from shared.vendors.base import INVALID, LIMITED, UNREACHABLE
from tests.support.keyvault import Desk, MemoryKeyring, ada, an_open_desk, grace

SECRET = "sk-marked-0123456789-abcd"


def a_request(user: UserId = ada, provider: str = "openai", **parts: object) -> ValidationRequest:
    request = ValidationRequest(
        event_id=EventId(uuid7()),
        owner=Owner.user(user),
        provider=provider,
        key_version=1,
        tier="pro",
        request_id="request-1",
    )
    return replace(request, **parts)  # type: ignore[arg-type]


async def a_desk_with_a_key(provider: str = "openai") -> Desk:
    desk = await an_open_desk()
    await desk.store_key(provider, SECRET, by=ada, tier="pro")
    return desk


async def test_the_vendors_word_is_kept_and_told() -> None:
    desk = await a_desk_with_a_key()

    await desk.validate_keys([a_request()])

    key = desk.store.key()
    assert key.status is Status.VALID
    assert desk.store.published[-1] == (
        KeyValidated(
            user_id=ada,
            key_id=key.id,
            provider="openai",
            key_version=1,
            status="valid",
            capabilities=("function_calling",),
            models=("gpt-6-luna",),
        ),
        ada,
        "pro",
    )


async def test_the_vendor_sees_the_key_that_was_stored() -> None:
    desk = await a_desk_with_a_key("anthropic")
    await desk.validate_keys([a_request(provider="anthropic")])
    assert desk.checker.asked == [("anthropic", SECRET)]


async def test_opening_a_key_to_check_it_stands_in_the_trail() -> None:
    desk = await a_desk_with_a_key()
    await desk.validate_keys([a_request()])
    (use,) = desk.key_uses.noted
    assert (use.kind, use.service, use.request_id) == (Kind.VALIDATED, "keyvault", "request-1")


async def test_a_request_about_a_replaced_version_is_dropped() -> None:
    desk = await a_desk_with_a_key()
    await desk.store_key("openai", f"{SECRET}2", by=ada, tier="pro")

    await desk.validate_keys([a_request(key_version=1)])

    assert not desk.checker.asked
    assert not desk.key_uses.noted
    assert desk.store.key().status is Status.PENDING


async def test_an_answer_that_comes_after_a_replacement_is_dropped() -> None:
    desk = await a_desk_with_a_key()

    class Replaced:
        async def check(self, provider: str, api_key: str) -> object:
            await desk.store_key("openai", f"{SECRET}2", by=ada, tier="pro")
            return INVALID

    validate = replace(desk.validate_keys, checker=Replaced())  # type: ignore[arg-type]
    await validate([a_request()])

    assert (desk.store.key().status, desk.store.key().version) == (Status.PENDING, 2)
    assert not desk.store.events(KeyValidated)


async def test_an_answer_that_comes_after_a_withdrawal_is_dropped() -> None:
    desk = await a_desk_with_a_key()

    class Withdrawn:
        async def check(self, provider: str, api_key: str) -> object:
            await desk.revoke_key("openai", by=ada, tier="pro")
            return INVALID

    await replace(desk.validate_keys, checker=Withdrawn())([a_request()])  # type: ignore[arg-type]

    assert desk.store.key().status is Status.REVOKED
    assert not desk.store.events(KeyValidated)


async def test_an_answer_that_comes_after_its_owner_was_forgotten_is_dropped() -> None:
    desk = await a_desk_with_a_key()

    class Forgotten:
        async def check(self, provider: str, api_key: str) -> object:
            await desk.forget_user.begin([(ada, ErasureId(uuid4()))])
            return INVALID

    validate = replace(desk.validate_keys, checker=Forgotten())  # type: ignore[arg-type]
    await validate([a_request()])

    assert not desk.store.keys
    assert not desk.store.events(KeyValidated)


async def test_a_request_delivered_twice_is_told_once() -> None:
    desk = await a_desk_with_a_key()
    request = a_request()

    await desk.validate_keys([request])
    await desk.validate_keys([request])

    assert len(desk.store.events(KeyValidated)) == 1


async def test_a_silent_vendor_takes_nothing_back_and_is_asked_again_in_time() -> None:
    desk = await a_desk_with_a_key()
    await desk.validate_keys([a_request()])
    desk.checker.answers["openai"] = UNREACHABLE

    await desk.validate_keys([a_request()])
    assert desk.store.key().status is Status.VALID
    assert await desk.request_due() == 0

    desk.clock.forward(timedelta(seconds=30))
    assert await desk.request_due() == 1


async def test_a_limited_key_stays_usable_and_says_why() -> None:
    desk = await a_desk_with_a_key("elevenlabs")
    desk.checker.answers["elevenlabs"] = LIMITED

    await desk.validate_keys([a_request(provider="elevenlabs")])

    key = desk.store.key("elevenlabs")
    assert (key.status, key.last_error) == (Status.LIMITED, LIMITED.error)


async def test_a_request_about_no_key_at_all_is_dropped() -> None:
    desk = await a_desk_with_a_key()
    await desk.validate_keys([a_request(grace), a_request(provider="gemini")])
    assert not desk.checker.asked


async def test_requests_wait_while_the_vault_is_sealed() -> None:
    desk = await a_desk_with_a_key()
    keyring, desk.source.keyring = desk.source.keyring, None

    with pytest.raises(VaultSealed) as sealed:
        await desk.validate_keys([a_request()])
    assert sealed.value.retryable

    desk.source.keyring = keyring
    await desk.validate_keys([a_request()])
    assert desk.store.key().status is Status.VALID


async def test_one_broken_key_does_not_keep_the_others_from_their_check() -> None:
    desk = await a_desk_with_a_key()
    await desk.store_key("openai", SECRET, by=grace, tier="free")
    key = desk.store.key(of=grace)
    assert key.secret is not None
    broken = SealedSecret(key.secret.data_key_id, b"kv1", key.secret.fingerprint)
    desk.store.keys[key.owner, "openai"] = replace(key, secret=broken)

    with pytest.raises(NotAuthentic):
        await desk.validate_keys([a_request(grace), a_request(ada)])

    assert desk.store.key(of=ada).status is Status.VALID
    assert desk.store.trail[-1].kind is Kind.NOT_OPENED


async def test_what_is_told_carries_the_request_it_goes_back_to() -> None:
    desk = await a_desk_with_a_key()
    seen: list[str | None] = []

    class Listening:
        async def check(self, provider: str, api_key: str) -> object:
            seen.append(current_request_id.get())
            return INVALID

    validate = replace(desk.validate_keys, checker=Listening())  # type: ignore[arg-type]
    await validate([a_request(request_id="request-9")])

    assert seen == ["request-9"]


async def test_due_checks_go_to_the_queue_of_the_tier_that_stored_the_key() -> None:
    desk = await a_desk_with_a_key()
    desk.clock.forward(timedelta(hours=1))

    assert await desk.request_due() == 1
    assert await desk.request_due() == 0

    event, subject, tier = desk.store.published[-1]
    assert isinstance(event, KeyValidationRequested)
    assert (subject, tier) == (ada, "pro")


async def test_a_worker_does_not_begin_a_vault() -> None:
    desk = Desk(source=MemoryKeyring())
    with pytest.raises(VaultSealed):
        await desk.validate_keys([a_request()])
    assert not desk.store.canaries


async def test_a_full_message_about_a_silent_vendor_is_done_before_it_comes_again() -> None:
    desk = await a_desk_with_a_key()
    at_work: list[int] = []

    class Silent:
        here = 0

        async def check(self, provider: str, api_key: str) -> object:
            self.here += 1
            at_work.append(self.here)
            await asyncio.sleep(0)
            self.here -= 1
            return UNREACHABLE

    validate = replace(desk.validate_keys, checker=Silent())  # type: ignore[arg-type]
    await validate([a_request() for _ in range(BATCH_SIZE)])

    # The key's own question, and those after it, which go out together.
    seconds = BATCH_SIZE / max(at_work) * 2 * vendor_check._TIMEOUT_SECONDS
    assert seconds < broker.transport_options("redis://valkey")["visibility_timeout"]
    # None waits for a connection to the vendor while its own time passes.
    most_questions = max(len(vendor.further_paths) for vendor in vendors.values())
    assert max(at_work) * most_questions <= vendor_check._MOST_CONNECTIONS
