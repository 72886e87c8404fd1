"""A secret in its two envelopes."""

from __future__ import annotations

import asyncio
from dataclasses import field, replace
from itertools import permutations
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from services.keyvault.domain.envelope import DataKeyPlace, NotAuthentic
from services.keyvault.domain.errors import VaultSealed
from services.keyvault.domain.key_encryption import (
    KekPlace,
    KeyringEncryption,
    PlaceFor,
    Wrapped,
)
from services.keyvault.domain.key_use import FoundKey
from services.keyvault.domain.keyring import Keyring, KeyState
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import Status
from services.keyvault.domain.secret import (
    DataKey,
    OpenedSecret,
    SecretName,
    new_data_key,
    opened_data_key,
    seal_secret,
)
from shared.ids import UserId
from shared.values import dataclass
from tests.support.keyvault import a_keyring, ada, grace, roots_of

ROOTS = roots_of(a_keyring(1))
ADA, GRACE = Owner.user(ada), Owner.user(grace)
printable = some.text(some.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8)


def a_name(owner: Owner = ADA, provider: str = "openai", version: int = 1) -> SecretName:
    return SecretName(uuid4(), owner, provider, version)


@given(printable)
@settings(max_examples=50)
async def test_a_sealed_secret_opens_to_itself(content: str) -> None:
    data_key, name = await new_data_key(ROOTS, ADA), a_name()
    sealed = await seal_secret(ROOTS, data_key, name, content)
    async with OpenedSecret(ROOTS, data_key, name, sealed.envelope) as secret:
        assert secret.decode() == content


async def test_a_sealed_secret_shows_nothing_of_itself() -> None:
    data_key = await new_data_key(ROOTS, ADA)
    sealed = await seal_secret(ROOTS, data_key, a_name(), "marked-secret-0123456789")
    stored = sealed.envelope + sealed.fingerprint.digest + data_key.wrapped
    assert b"marked" not in stored


async def test_what_one_version_wrapped_opens_after_another_became_active() -> None:
    data_key, name = await new_data_key(ROOTS, ADA), a_name()
    sealed = await seal_secret(ROOTS, data_key, name, "sk-long-ago")
    async with OpenedSecret(roots_of(a_keyring(1, 2)), data_key, name, sealed.envelope) as secret:
        assert secret == b"sk-long-ago"


async def test_secrets_can_not_change_places() -> None:
    ada_key, grace_key = await new_data_key(ROOTS, ADA), await new_data_key(ROOTS, GRACE)
    names = [
        a_name(ADA),
        a_name(GRACE),
        a_name(ADA, "gemini"),
        replace(a_name(ADA), version=2),
    ]
    keys = [ada_key if name.owner == ADA else grace_key for name in names]
    sealed = [
        (await seal_secret(ROOTS, key, name, "sk-secret")).envelope
        for key, name in zip(keys, names, strict=True)
    ]
    for here, there in permutations(range(len(names)), 2):
        with pytest.raises(NotAuthentic):
            async with OpenedSecret(ROOTS, keys[there], names[there], sealed[here]):
                pass


async def test_a_data_key_moved_to_another_owner_opens_nothing() -> None:
    data_key, name = await new_data_key(ROOTS, ADA), a_name()
    sealed = await seal_secret(ROOTS, data_key, name, "sk-secret")
    stolen = replace(data_key, owner=GRACE)
    with pytest.raises(NotAuthentic):
        async with OpenedSecret(ROOTS, stolen, replace(name, owner=GRACE), sealed.envelope):
            pass


async def test_each_owner_has_a_data_key_of_their_own() -> None:
    one, other = await new_data_key(ROOTS, ADA), await new_data_key(ROOTS, ADA)
    assert one.wrapped != other.wrapped


@dataclass(frozen=True)
class WatchedKeys(KeyringEncryption):
    """A keyring's, with all that went through them, as it lies in memory now."""

    passed: list[bytes | bytearray] = field(default_factory=list)

    async def wrap(
        self, content: bytes | bytearray, place_for: PlaceFor, *, version: int | None = None
    ) -> Wrapped:
        self.passed.append(content)
        return await KeyringEncryption.wrap(self, content, place_for, version=version)

    async def unwrap(self, version: int, envelope: bytes, place: KekPlace) -> bytearray:
        self.passed.append(await KeyringEncryption.unwrap(self, version, envelope, place))
        return self.passed[-1]  # type: ignore[return-value]


async def test_no_data_key_stays_in_memory() -> None:
    keys = WatchedKeys(a_keyring(1))
    roots = replace(ROOTS, kek=keys)
    data_key, name = await new_data_key(roots, ADA), a_name()
    sealed = await seal_secret(roots, data_key, name, "sk-secret")
    async with OpenedSecret(roots, data_key, name, sealed.envelope):
        assert not any(keys.passed[-1]), "it is needed no more once the secret is open"
    with pytest.raises(NotAuthentic):
        async with OpenedSecret(roots, data_key, name, b"another envelope"):
            pass
    async with opened_data_key(roots, data_key) as key:
        assert any(key)
    assert [len(passed) for passed in keys.passed] == [32] * 5
    assert not any(map(any, keys.passed))


async def test_an_opened_secret_is_wiped_when_its_block_ends() -> None:
    data_key, name = await new_data_key(ROOTS, ADA), a_name()
    sealed = await seal_secret(ROOTS, data_key, name, "sk-secret")
    async with OpenedSecret(ROOTS, data_key, name, sealed.envelope) as secret:
        assert secret == b"sk-secret"
    assert secret == bytes(9)


@pytest.mark.parametrize("failure", [RuntimeError, asyncio.CancelledError])
async def test_it_is_wiped_after_a_failure_too(failure: type[BaseException]) -> None:
    data_key, name = await new_data_key(ROOTS, ADA), a_name()
    sealed = await seal_secret(ROOTS, data_key, name, "sk-secret")
    secret = bytearray()
    with pytest.raises(failure):
        async with OpenedSecret(ROOTS, data_key, name, sealed.envelope) as secret:
            assert any(secret)
            raise failure
    assert secret == bytes(9)


def a_keyring_of_then() -> Keyring:
    return Keyring("prod", 3, {3: bytes(range(32))}, {1: bytes(32)})


LONG_AGO = DataKey(
    UUID("00000000-0000-7000-8000-00000000000b"),
    Owner.user(UserId(UUID("00000000-0000-7000-8000-00000000000a"))),
    3,
    bytes.fromhex(
        "6b763101000000030000000000000000000000002e9d97fd9109a59a2081831e3401bfb6e27264601cb45618"
        "b8a789b8f9c26369e71065c501b3372f4c0a839490da3597"
    ),
)
SEALED_LONG_AGO = bytes.fromhex(
    "6b7631010000000000007000800000000000000bffffffffffffffffffffffffc2645e7d66302c6ad5686c205c17"
    "556e212aa52ccf8034ed05754b697d1387"
)


async def test_what_an_earlier_release_sealed_opens() -> None:
    roots = roots_of(a_keyring_of_then())
    name = SecretName(UUID("00000000-0000-7000-8000-00000000000c"), LONG_AGO.owner, "openai", 7)
    async with opened_data_key(roots, LONG_AGO) as key:
        assert key == bytes(range(32, 64))
    async with OpenedSecret(roots, LONG_AGO, name, SEALED_LONG_AGO) as secret:
        assert secret == b"sk-example-0001"


async def test_without_the_version_that_is_needed_the_vault_is_sealed() -> None:
    data_key, name = await new_data_key(ROOTS, ADA), a_name()
    sealed = await seal_secret(ROOTS, data_key, name, "sk-secret")
    lacking = roots_of(a_keyring(2, active=1))
    with pytest.raises(VaultSealed):
        await new_data_key(lacking, ADA)
    with pytest.raises(VaultSealed):
        async with OpenedSecret(lacking, data_key, name, sealed.envelope):
            pass


async def test_each_version_opens_what_it_wrapped_and_no_other() -> None:
    keys = KeyringEncryption(a_keyring(1, 2))

    def place_of(place: DataKeyPlace) -> PlaceFor:
        return lambda _: place

    for _ in range(2):  # the first time and again, with the keys made ready
        for version, other in ((1, 2), (2, 1)):
            here = DataKeyPlace("test", "user", ada, uuid4(), version)
            wrapped = await keys.wrap(b"a data key", place_of(here), version=version)
            assert await keys.unwrap(version, wrapped.envelope, here) == b"a data key"
            with pytest.raises(NotAuthentic):
                await keys.unwrap(other, wrapped.envelope, here)


async def test_of_the_versions_one_is_active() -> None:
    state = await KeyringEncryption(a_keyring(1, 2, 3, active=2)).state()
    assert (state.active, state.versions) == (
        2,
        {1: KeyState.RETIRED, 2: KeyState.ACTIVE, 3: KeyState.RETIRED},
    )


async def test_nothing_is_opened_whose_use_stands_not_in_the_trail() -> None:
    data_key, name = await new_data_key(ROOTS, ADA), a_name()
    sealed = await seal_secret(ROOTS, data_key, name, "sk-secret")
    found = FoundKey(name, Status.VALID, data_key, sealed.envelope, is_noted=True)
    async with found.opened(ROOTS) as secret:
        assert secret == b"sk-secret"
    for lacking in (
        replace(found, is_noted=False),
        replace(found, data_key=None),
        replace(found, envelope=None),
    ):
        with pytest.raises(ValueError, match="noted"):
            lacking.opened(ROOTS)
