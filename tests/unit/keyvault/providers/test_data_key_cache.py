"""Data keys stay unwrapped for a moment, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest

from services.keyvault.domain.envelope import CanaryPlace, DataKeyPlace, NotAuthentic, seal, unseal
from services.keyvault.domain.key_encryption import KekPlace, Wrapped
from services.keyvault.domain.keyring import KeyState
from services.keyvault.providers import data_key_cache
from services.keyvault.providers.data_key_cache import CachedKeyEncryption
from services.keyvault.providers.remote_kek import RemoteKeyEncryption
from shared.errors import DependencyUnavailable
from tests.support.keyvault import ada, example_key, grace

KEY = bytes(range(7, 39))


@dataclass
class CountingService:
    """A key service in this process that counts how often it is asked."""

    name: str = "counting"
    algorithm: bytes = b"\x7f"
    decrypted: int = 0
    states: Mapping[int, KeyState] = field(default_factory=lambda: {1: KeyState.ACTIVE})

    def versions(self) -> Mapping[int, KeyState]:
        return self.states

    def encrypt(self, version: int, content: bytes, place: KekPlace) -> bytes:
        return seal(example_key(version), place, content)

    def decrypt(self, version: int, ciphertext: bytes, place: KekPlace) -> bytes:
        self.decrypted += 1
        return bytes(unseal(example_key(version), place, ciphertext))

    def reencrypt(
        self, version: int, ciphertext: bytes, place: KekPlace, to: int, new_place: KekPlace
    ) -> bytes:
        return self.encrypt(to, self.decrypt(version, ciphertext, place), new_place)

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Watch:
    """A clock that is moved by hand."""

    now: float = 0

    def __call__(self) -> float:
        return self.now


@contextmanager
def cached(service: CountingService, **parts: Any) -> Iterator[CachedKeyEncryption]:
    inner = RemoteKeyEncryption(service, installation="test", timeout_seconds=2)
    kek = CachedKeyEncryption(inner, **{"seconds": 60, **parts})
    with ExitStack() as stack:
        stack.callback(kek.close)
        yield kek


def a_place(number: int = 1, owner: UUID = ada) -> DataKeyPlace:
    return DataKeyPlace("test", "user", owner, UUID(int=number), 1)


async def wrapped(kek: CachedKeyEncryption, place: DataKeyPlace) -> Wrapped:
    """Wrapped some time ago: nothing of it is kept here."""
    made = await kek.wrap(KEY, lambda version: replace(place, kek_version=version))
    kek.forget()
    return made


async def test_a_minute_of_one_user_costs_one_question() -> None:
    service, watch = CountingService(), Watch()
    with cached(service, now=watch) as kek:
        made = await wrapped(kek, a_place())
        for _ in range(5):
            assert await kek.unwrap(1, made.envelope, a_place()) == bytearray(KEY)
        assert service.decrypted == 1

        watch.now = 60
        await kek.unwrap(1, made.envelope, a_place())
        assert service.decrypted == 2


async def test_of_many_at_once_one_asks() -> None:
    service = CountingService()
    with cached(service) as kek:
        made = await wrapped(kek, a_place())
        keys = await asyncio.gather(*(kek.unwrap(1, made.envelope, a_place()) for _ in range(20)))
        assert all(key == KEY for key in keys)
        assert service.decrypted == 1
        assert not kek._asking


async def test_a_fresh_data_key_is_known_without_a_question() -> None:
    service = CountingService()
    with cached(service) as kek:
        made = await kek.wrap(KEY, lambda _: a_place())
        assert await kek.unwrap(1, made.envelope, a_place()) == bytearray(KEY)
        assert service.decrypted == 0


async def test_a_wrapping_that_fails_leaves_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytearray] = []

    class Noted(bytearray):
        def __init__(self, content: bytes) -> None:
            super().__init__(content)
            made.append(self)

    class Failing(CountingService):
        def encrypt(self, version: int, content: bytes, place: KekPlace) -> bytes:
            raise OSError("nobody there")

    monkeypatch.setattr(data_key_cache, "bytearray", Noted, raising=False)
    with cached(Failing()) as kek:
        with pytest.raises(DependencyUnavailable):
            await kek.wrap(KEY, lambda _: a_place())
        assert not any(map(any, made))

    with cached(CountingService()) as kek:
        await kek.wrap(KEY, lambda _: a_place())
        assert made == [KEY]  # it does see copies


@pytest.mark.parametrize("empty", [b"", KEY, KEY[:-1]])
async def test_what_can_hold_no_data_key_takes_the_place_of_none(
    empty: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = CountingService()
    with cached(service) as kek:
        made = await wrapped(kek, a_place())
        monkeypatch.setattr(service, "encrypt", lambda *_: empty)
        with pytest.raises(DependencyUnavailable):
            await kek.wrap(KEY, lambda _: a_place())
        with pytest.raises(DependencyUnavailable):
            await kek.rewrap(1, made.envelope, a_place(), lambda _: a_place())


@pytest.mark.parametrize("found", [b"", KEY[:-1], KEY * 2])
async def test_what_is_no_data_key_opens_nothing(
    found: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = CountingService()
    with cached(service) as kek:
        made = await wrapped(kek, a_place())
        monkeypatch.setattr(service, "decrypt", lambda *_: found)
        with pytest.raises(DependencyUnavailable):
            await kek.unwrap(1, made.envelope, a_place())
        assert len(kek) == 0


async def test_each_reader_gets_a_copy_of_its_own_to_wipe() -> None:
    with cached(CountingService()) as kek:
        made = await wrapped(kek, a_place())
        first = await kek.unwrap(1, made.envelope, a_place())
        first[:] = bytes(32)
        assert await kek.unwrap(1, made.envelope, a_place()) == bytearray(KEY)


async def test_only_the_same_envelope_in_the_same_place_is_answered() -> None:
    with cached(CountingService()) as kek:
        made = await wrapped(kek, a_place())
        await kek.unwrap(1, made.envelope, a_place())
        with pytest.raises(NotAuthentic):
            await kek.unwrap(1, made.envelope, a_place(owner=grace))
        with pytest.raises(NotAuthentic):
            await kek.unwrap(1, made.envelope[:-1] + b"\0", a_place())


async def test_canaries_are_really_asked_about_each_time() -> None:
    service, place = CountingService(), CanaryPlace("test", 1)
    with cached(service) as kek:
        made = await kek.wrap(KEY, lambda _: place)
        await kek.unwrap(1, made.envelope, place)
        await kek.unwrap(1, made.envelope, place)
        assert service.decrypted == 2
        assert len(kek) == 0


async def test_what_is_dropped_is_wiped() -> None:
    with cached(CountingService(), most=2) as kek:
        made = [await wrapped(kek, a_place(number)) for number in range(3)]
        await kek.unwrap(1, made[0].envelope, a_place(0))
        (first,) = kek._kept.values()
        for number in (1, 2):
            await kek.unwrap(1, made[number].envelope, a_place(number))
        assert len(kek) == 2
        assert first.key == bytes(32)
        assert first.end is not None
        assert first.end.cancelled(), "it would drop whatever is kept there by then"

        rest = [kept.key for kept in kek._kept.values()]
        kek.forget()
        assert len(kek) == 0
        assert rest == [bytes(32), bytes(32)]


async def test_nothing_outlives_the_process_that_closes() -> None:
    with cached(CountingService()) as kek:
        await kek.wrap(KEY, lambda _: a_place())
        (kept,) = kek._kept.values()
    assert kept.key == bytes(32)


async def test_the_version_that_was_asked_for_wraps() -> None:
    service = CountingService(states={1: KeyState.RETIRED, 2: KeyState.ACTIVE})
    with cached(service) as kek:
        for asked, wraps in ((None, 2), (2, 2), (1, 1)):
            made = await kek.wrap(KEY, lambda v: CanaryPlace("test", v), version=asked)
            assert made.version == wraps


async def test_one_owner_is_forgotten_alone() -> None:
    with cached(CountingService()) as kek:
        for number, owner in enumerate((ada, grace)):
            place = a_place(number, owner)
            await kek.wrap(KEY, lambda _, place=place: place)  # type: ignore[misc]
        kek.forget(ada)
        assert [kept.owner_id for kept in kek._kept.values()] == [grace]


async def test_what_is_forgotten_while_it_is_asked_for_is_not_kept() -> None:
    with cached(CountingService()) as kek:
        made = await wrapped(kek, a_place())
        asking = asyncio.create_task(kek.unwrap(1, made.envelope, a_place()))
        await asyncio.sleep(0)
        kek.forget(ada)
        assert await asking == bytearray(KEY)
        assert len(kek) == 0


async def test_nothing_lies_there_longer_than_its_time() -> None:
    with cached(CountingService(), seconds=0.01) as kek:
        made = await wrapped(kek, a_place())
        await kek.unwrap(1, made.envelope, a_place())
        (kept,) = kek._kept.values()
        async with asyncio.timeout(2):
            while len(kek):
                await asyncio.sleep(0.005)
        assert kept.key == bytes(32)


async def test_without_a_time_nothing_is_kept() -> None:
    service = CountingService()
    with cached(service, seconds=0) as kek:
        made = await kek.wrap(KEY, lambda _: a_place())
        await kek.unwrap(1, made.envelope, a_place())
        assert (service.decrypted, len(kek)) == (1, 0)


async def test_a_version_that_another_process_heard_of_first_is_looked_for() -> None:
    service = CountingService()
    with cached(service) as kek:
        await kek.state()
        service.states = {1: KeyState.RETIRED, 2: KeyState.ACTIVE}
        place = replace(a_place(), kek_version=2)
        envelope = b"kv1\x7f" + place.key_name + service.encrypt(2, KEY, place)
        assert await kek.unwrap(2, envelope, place) == bytearray(KEY)
