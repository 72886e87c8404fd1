"""Letting a call go out with a user's key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.keyvault.domain.audit import Kind
from services.keyvault.domain.envelope import NotAuthentic
from services.keyvault.domain.errors import (
    GrantReplayed,
    KeyNotFound,
    KeyNotUsable,
    NotYourKey,
    ProviderNotAllowed,
    VaultSealed,
)
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import Status
from services.keyvault.domain.secret import SealedSecret
from shared.errors import DependencyUnavailable
from tests.support.keyvault import Desk, a_grant, ada, an_open_desk, grace

SECRET = "sk-marked-0123456789-abcd"


async def a_desk_with_a_key(provider: str = "openai", status: Status = Status.VALID) -> Desk:
    desk = await an_open_desk()
    await desk.store_key(provider, SECRET, by=ada, tier="free")
    key = desk.store.key(provider)
    desk.store.keys[key.owner, provider] = replace(key, status=status)
    return desk


@pytest.mark.parametrize(
    ("provider", "service", "header"),
    [
        ("openai", "chat", {"authorization": f"Bearer {SECRET}"}),
        ("anthropic", "chat", {"x-api-key": SECRET}),
        ("gemini", "chat", {"x-goog-api-key": SECRET}),
        ("elevenlabs", "voice", {"xi-api-key": SECRET}),
    ],
)
async def test_each_vendor_gets_its_header_and_nothing_else(
    provider: str, service: str, header: dict[str, str]
) -> None:
    desk = await a_desk_with_a_key(provider)
    grant = a_grant(provider=provider, service=service)

    carried = dict(await desk.use_key(grant, caller=ada, provider=provider))
    assert carried.pop("x-companion-key") == f"{ada} 1"
    assert carried == header


async def test_a_use_stands_in_the_trail_with_service_and_request() -> None:
    desk = await a_desk_with_a_key()

    await desk.use_key(a_grant(request_id="request-7"), caller=ada, provider="openai")

    (use,) = desk.key_uses.noted
    assert (use.kind, use.owner, use.service, use.request_id) == (
        Kind.USED,
        Owner.user(ada),
        "chat",
        "request-7",
    )


async def test_a_grant_is_good_for_one_use() -> None:
    desk = await a_desk_with_a_key()
    grant = a_grant()
    await desk.use_key(grant, caller=ada, provider="openai")

    with pytest.raises(GrantReplayed):
        await desk.use_key(grant, caller=ada, provider="openai")


async def test_somebody_elses_grant_opens_nothing() -> None:
    desk = await a_desk_with_a_key()
    with pytest.raises(NotYourKey):
        await desk.use_key(a_grant(ada), caller=grace, provider="openai")
    assert not desk.key_uses.noted


async def test_another_users_key_looks_absent() -> None:
    desk = await a_desk_with_a_key()
    with pytest.raises(KeyNotFound):
        await desk.use_key(a_grant(grace), caller=grace, provider="openai")


@pytest.mark.parametrize(
    ("service", "granted", "called"),
    [
        ("chat", "openai", "anthropic"),
        ("chat", "elevenlabs", "elevenlabs"),
        ("voice", "openai", "openai"),
        ("voice", "anthropic", "anthropic"),
        ("billing", "openai", "openai"),
        ("keyvault", "openai", "openai"),
        ("chat", "mistral", "mistral"),
        ("chat", "openai", ""),
    ],
)
async def test_a_service_reaches_its_own_providers_only(
    service: str, granted: str, called: str
) -> None:
    desk = await a_desk_with_a_key()
    with pytest.raises(ProviderNotAllowed):
        await desk.use_key(a_grant(service=service, provider=granted), caller=ada, provider=called)
    assert not desk.key_uses.noted


@pytest.mark.parametrize(
    "status", [Status.PENDING, Status.VALID, Status.LIMITED, Status.UNREACHABLE]
)
async def test_a_key_that_may_work_is_given_out(status: Status) -> None:
    desk = await a_desk_with_a_key(status=status)
    assert await desk.use_key(a_grant(), caller=ada, provider="openai")


async def test_an_invalid_key_is_not_given_out() -> None:
    desk = await a_desk_with_a_key(status=Status.INVALID)
    with pytest.raises(KeyNotUsable):
        await desk.use_key(a_grant(), caller=ada, provider="openai")
    assert not desk.key_uses.noted


async def test_a_withdrawn_key_is_gone() -> None:
    desk = await a_desk_with_a_key()
    await desk.revoke_key("openai", by=ada, tier="free")
    with pytest.raises(KeyNotFound):
        await desk.use_key(a_grant(), caller=ada, provider="openai")


async def test_no_key_without_a_line_in_the_trail() -> None:
    desk = await a_desk_with_a_key()
    desk.store.is_down = True
    with pytest.raises(DependencyUnavailable):
        await desk.use_key(a_grant(), caller=ada, provider="openai")


async def test_no_key_while_the_vault_is_sealed() -> None:
    desk = await a_desk_with_a_key()
    desk.vault.seal("keyring_missing")
    with pytest.raises(VaultSealed):
        await desk.use_key(a_grant(), caller=ada, provider="openai")
    assert not desk.key_uses.noted


async def test_a_broken_seal_is_no_key_and_stands_in_the_trail() -> None:
    desk = await a_desk_with_a_key()
    key = desk.store.key()
    assert key.secret is not None
    envelope = key.secret.envelope[:-1] + bytes([key.secret.envelope[-1] ^ 1])
    broken = SealedSecret(key.secret.data_key_id, envelope, key.secret.fingerprint)
    desk.store.keys[key.owner, "openai"] = replace(key, secret=broken)

    with pytest.raises(NotAuthentic):
        await desk.use_key(a_grant(), caller=ada, provider="openai")

    line = desk.store.trail[-1]
    assert (line.kind, line.service) == (Kind.NOT_OPENED, "chat")
    assert (line.user_id, line.request_id) == (ada, a_grant().request_id)


async def test_a_secret_moved_to_another_user_opens_nothing() -> None:
    desk = await a_desk_with_a_key()
    await desk.store_key("openai", "sk-of-grace-0123", by=grace, tier="free")
    mine, hers = desk.store.key(of=ada), desk.store.key(of=grace)
    desk.store.keys[hers.owner, "openai"] = replace(hers, secret=mine.secret)

    with pytest.raises(NotAuthentic):
        await desk.use_key(a_grant(grace), caller=grace, provider="openai")


async def test_two_users_in_turn_always_get_their_own_key() -> None:
    desk = await an_open_desk()
    secrets = {ada: "sk-of-ada-0123456789", grace: "sk-of-grace-0123456789"}
    for user, secret in secrets.items():
        await desk.store_key("openai", secret, by=user, tier="free")
    for turn in range(200):
        user = ada if turn % 2 else grace
        header = await desk.use_key(a_grant(user), caller=user, provider="openai")
        assert header["authorization"] == f"Bearer {secrets[user]}"
        assert header["x-companion-key"] == f"{user} 1"


async def test_it_is_told_which_version_of_the_key_it_is() -> None:
    desk = await a_desk_with_a_key()
    await desk.store_key("openai", "sk-the-next-0123456789", by=ada, tier="free")
    carried = await desk.use_key(a_grant(), caller=ada, provider="openai")
    assert carried["x-companion-key"] == f"{ada} 2"
