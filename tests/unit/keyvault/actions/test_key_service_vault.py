"""A vault whose keys lie in a key service: what opens it, what seals it, and what does neither."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.keyvault.domain.canary import Purpose, canaries_of
from services.keyvault.domain.errors import KeyChecksReached, VaultSealed
from services.keyvault.providers.data_key_cache import CachedKeyEncryption
from services.keyvault.providers.remote_kek import RemoteKeyEncryption
from services.keyvault.providers.vault_transit import TransitKey, VaultTransit
from shared.erasure import ErasureId
from shared.errors import DependencyUnavailable
from tests.support.key_services import TransitStandIn, serving
from tests.support.keyvault import (
    Desk,
    MemoryWork,
    a_grant,
    a_keyring,
    ada,
    an_open_desk,
    roots_of,
)

SECRET = "sk-marked-0123456789-abcd"
_FIRST = (Purpose.WRAPPING, 1)


@dataclass
class Place:
    """A desk at a key service, and a second process at the same database."""

    transit: TransitStandIn
    desk: Desk
    connect: Callable[..., CachedKeyEncryption]

    def another(self, **parts: str) -> Desk:
        return Desk(store=self.desk.store, source=self.connect(**parts))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    transit, token = TransitStandIn(), tmp_path / "token"
    token.write_text(transit.token)
    with ExitStack() as stack:
        url = stack.enter_context(serving(transit))

        def connect(
            key: str = "companion", installation: str = "test", at: str = url
        ) -> CachedKeyEncryption:
            service = VaultTransit(TransitKey(at, token, key=key), timeout_seconds=2)
            inner = RemoteKeyEncryption(service, installation=installation, timeout_seconds=2)
            kek = CachedKeyEncryption(inner, seconds=60)
            stack.callback(kek.close)
            return kek

        yield Place(transit, await an_open_desk(source=connect()), connect)


async def test_a_fresh_database_begins_with_canaries_and_a_fingerprint_key(place: Place) -> None:
    assert not place.desk.vault.is_sealed
    assert {(c.purpose, c.version) for c in place.desk.store.canaries} == {
        (Purpose.WRAPPING, 1),
        (Purpose.FINGERPRINT, 1),
    }
    (root,) = place.desk.store.sealed_roots.values()
    fingerprints = place.desk.vault.roots.fingerprints.by_version
    assert fingerprints[1] not in root.envelope
    assert len(fingerprints[1]) == 32


async def test_a_stored_key_is_used_by_another_process(place: Place) -> None:
    await place.desk.store_key("openai", SECRET, by=ada, tier="free")
    other = place.another()
    await other.examine_vault()
    headers = await other.use_key(a_grant(), caller=ada, provider="openai")
    assert headers["authorization"] == f"Bearer {SECRET}"


async def test_the_same_key_again_is_noticed_by_another_process(place: Place) -> None:
    await place.desk.store_key("openai", SECRET, by=ada, tier="free")
    other = place.another()
    await other.examine_vault()
    assert (await other.store_key("openai", SECRET, by=ada, tier="free")).version == 1


async def test_a_use_asks_the_key_service_once_a_minute(place: Place) -> None:
    await place.desk.store_key("openai", SECRET, by=ada, tier="free")
    place.desk.vault.forget()
    before = place.transit.asked.count("decrypt")
    for _ in range(3):
        await place.desk.use_key(a_grant(), caller=ada, provider="openai")
    assert place.transit.asked.count("decrypt") == before + 1


async def test_no_transaction_is_open_while_the_key_service_is_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, done, during = [0], [0], list[int]()
    desk, ask, enter, leave = (
        place.desk,
        RemoteKeyEncryption._ask,
        MemoryWork.__aenter__,
        MemoryWork.__aexit__,
    )

    async def watched(self: RemoteKeyEncryption, question: Callable[[], object]) -> object:
        during.append(begun[0] - done[0])
        return await ask(self, question)

    async def entered(self: MemoryWork) -> MemoryWork:
        begun[0] += 1
        return await enter(self)

    async def left(self: MemoryWork, *outcome: Any) -> None:
        done[0] += 1
        await leave(self, *outcome)

    monkeypatch.setattr(RemoteKeyEncryption, "_ask", watched)
    monkeypatch.setattr(MemoryWork, "__aenter__", entered)
    monkeypatch.setattr(MemoryWork, "__aexit__", left)
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    desk.vault.forget()
    await desk.store_key("gemini", SECRET, by=ada, tier="free")
    place.transit.rotate()
    await desk.examine_vault()
    assert begun[0] > 3
    assert during
    assert not any(during)


async def test_who_has_stored_enough_does_not_reach_the_key_service(place: Place) -> None:
    strict = Desk(store=place.desk.store, source=place.connect(), checks_per_minute=1)
    await strict.examine_vault()
    await strict.store_key("openai", SECRET, by=ada, tier="free")
    strict.vault.forget()
    before = len(place.transit.asked.paths)
    with pytest.raises(KeyChecksReached):
        await strict.store_key("gemini", SECRET, by=ada, tier="free")
    assert len(place.transit.asked.paths) == before


# What is wrong with the key service, and what the vault then says.
MATRIX: dict[str, tuple[Callable[[TransitStandIn], None], dict[str, str], str]] = {
    "wrong key under the name": (
        lambda transit: transit.keys.update({1: bytes(range(32))}),
        {},
        "keyring_of_another_database",
    ),
    "another installation's name": (
        lambda _: None,
        {"installation": "other"},
        "keyring_of_another_database",
    ),
    "no such key": (lambda _: None, {"key": "nothing"}, "kek_missing"),
    "no permission": (lambda transit: setattr(transit, "token", "x"), {}, "kek_forbidden"),
    "another kind of key": (lambda t: setattr(t, "type", "rsa-2048"), {}, "kek_unsuitable"),
    "versions in another order": (
        lambda transit: transit.keys.update({1: transit.keys[2], 2: transit.keys[1]}),
        {},
        "keyring_of_another_database",
    ),
}


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.parametrize("starts_anew", [True, False], ids=["at start", "while open"])
async def test_start_matrix(place: Place, name: str, starts_anew: bool) -> None:
    spoil, parts, reason = MATRIX[name]
    place.transit.rotate()
    await place.desk.examine_vault()
    before = list(place.desk.store.canaries)
    token = place.transit.token

    spoil(place.transit)
    desk = place.another(**parts) if starts_anew or parts else place.desk
    await desk.examine_vault()

    assert desk.vault.sealed_because == reason
    assert place.desk.store.canaries == before
    if name == "no permission":
        place.transit.token = token
        await desk.examine_vault()
        assert not desk.vault.is_sealed


async def test_a_version_closed_too_early_seals(place: Place) -> None:
    place.transit.rotate()
    place.transit.oldest = 2
    await place.another().examine_vault()
    desk = place.another()
    await desk.examine_vault()
    assert desk.vault.sealed_because == "keyring_lacks_a_version"


async def test_out_of_reach_at_start_is_sealed_until_it_is_back(place: Place) -> None:
    desk = place.another()
    place.transit.asked.instead = (503, {"errors": ["Vault is sealed"]})
    with pytest.raises(DependencyUnavailable):
        await desk.examine_vault()
    assert desk.vault.sealed_because == "not_examined"
    with pytest.raises(VaultSealed):
        await desk.store_key("openai", SECRET, by=ada, tier="free")

    place.transit.asked.instead = None
    await desk.examine_vault()
    assert not desk.vault.is_sealed


async def test_out_of_reach_later_seals_nothing_and_what_is_kept_goes_on(place: Place) -> None:
    desk = place.desk
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    place.transit.asked.instead = (503, {"errors": ["Vault is sealed"]})

    with pytest.raises(DependencyUnavailable):
        await desk.examine_vault()
    assert not desk.vault.is_sealed
    assert await desk.use_key(a_grant(), caller=ada, provider="openai")
    desk.vault.forget()
    with pytest.raises(DependencyUnavailable):
        await desk.use_key(a_grant(), caller=ada, provider="openai")


async def test_sealing_wipes_what_was_kept(place: Place) -> None:
    await place.desk.store_key("openai", SECRET, by=ada, tier="free")
    assert len(place.desk.source) == 1
    place.desk.vault.seal("kek_forbidden")
    assert len(place.desk.source) == 0


async def test_a_withdrawal_of_the_last_key_wipes_what_was_kept(place: Place) -> None:
    await place.desk.store_key("openai", SECRET, by=ada, tier="free")
    await place.desk.revoke_key("openai", by=ada, tier="free")
    assert len(place.desk.source) == 0


async def test_who_is_forgotten_leaves_nothing_unwrapped(place: Place) -> None:
    await place.desk.store_key("openai", SECRET, by=ada, tier="free")
    await place.desk.forget_user.begin([(ada, ErasureId(uuid4()))])
    assert len(place.desk.source) == 0


async def test_a_permission_lost_during_a_use_is_our_trouble(place: Place) -> None:
    await place.desk.store_key("openai", SECRET, by=ada, tier="free")
    place.desk.vault.forget()
    place.transit.token = "another"
    with pytest.raises(VaultSealed):
        await place.desk.use_key(a_grant(), caller=ada, provider="openai")


async def test_a_rotation_at_the_key_service_is_taken_up_by_itself(place: Place) -> None:
    desk = place.desk
    await desk.store_key("openai", SECRET, by=ada, tier="free")
    place.transit.rotate()

    await desk.examine_vault()

    assert not desk.vault.is_sealed
    wrapping = {c.version for c in desk.store.canaries if c.purpose is Purpose.WRAPPING}
    assert wrapping == {1, 2}
    assert [root.kek_version for root in desk.store.sealed_roots.values()] == [2]
    desk.vault.forget()
    assert await desk.use_key(a_grant(), caller=ada, provider="openai")


async def test_a_version_retired_here_gets_no_canary_again(place: Place) -> None:
    desk = place.desk
    place.transit.rotate()
    await desk.examine_vault()
    desk.store.canaries = [c for c in desk.store.canaries if (c.purpose, c.version) != _FIRST]

    await desk.examine_vault()
    assert _FIRST not in {(c.purpose, c.version) for c in desk.store.canaries}
    place.transit.oldest = 2
    await desk.examine_vault()
    assert not desk.vault.is_sealed


async def test_a_database_of_a_keyring_is_not_opened_by_a_key_service(place: Place) -> None:
    desk = place.another()
    desk.store.canaries[:] = await canaries_of(roots_of(a_keyring()))
    desk.store.sealed_roots.clear()
    await desk.examine_vault()
    assert desk.vault.is_sealed
