"""Hashing: real Argon2id, never on the event loop, never too much of it at once."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Literal

import argon2
import pytest

from services.auth.domain.errors import PasswordsBusy
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, PasswordHash
from services.auth.providers.argon2_passwords import Argon2Passwords

WORD = Password("a lamp lights nine rooms")
HERE, THERE = (Origin("a browser", address) for address in ("192.0.2.7", "198.51.100.9"))


class Cheap(argon2.PasswordHasher):
    """The least that Argon2 can do."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=64, parallelism=1)


@pytest.fixture
def passwords() -> Iterator[Argon2Passwords]:
    passwords = Argon2Passwords(Cheap(), at_once=2, waiting=2)
    yield passwords
    passwords.close()


async def test_only_the_same_password_fits(passwords: Argon2Passwords) -> None:
    hash_ = await passwords.hash(WORD, HERE)
    assert hash_.encoded.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert await passwords.verify(WORD, hash_, HERE)
    for other in ("", WORD.text + " ", WORD.text.upper(), "\ud800"):
        assert not await passwords.verify(Password(other), hash_, HERE)


@pytest.mark.parametrize("text", ["Ame\u0301lie comes home", "nul\0nul\0nul\0nul", " spaces " * 3])
async def test_what_is_typed_is_what_counts(passwords: Argon2Passwords, text: str) -> None:
    hash_ = await passwords.hash(Password(text), HERE)
    assert await passwords.verify(Password(text), hash_, HERE)
    for other in ("Amélie comes home", "nul", text.strip()):
        assert other == text or not await passwords.verify(Password(other), hash_, HERE)


async def test_an_unknown_user_costs_a_real_verification_and_fits_nothing() -> None:
    class Counting(Cheap):
        verified: list[str] = []  # noqa: RUF012

        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
            self.verified.append(str(hash))
            return super().verify(hash, password)

    hasher = Counting()
    passwords = Argon2Passwords(hasher, at_once=1, waiting=0)
    known = await passwords.hash(WORD, HERE)
    assert not await passwords.verify(WORD, None, HERE)
    assert await passwords.verify(WORD, known, HERE)
    of_nobody, of_somebody = (argon2.extract_parameters(hash_) for hash_ in hasher.verified)
    assert of_nobody == of_somebody
    passwords.close()


async def test_other_parameters_make_a_hash_outdated(passwords: Argon2Passwords) -> None:
    assert not passwords.is_outdated(await passwords.hash(WORD, HERE))
    older = argon2.PasswordHasher(time_cost=2, memory_cost=64, parallelism=1).hash(WORD.text)
    assert passwords.is_outdated(PasswordHash(older))


class Stuck(Cheap):
    """Hashes that end when they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.running = 0
        self.most_running = 0
        self._lock = threading.Lock()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.go.wait(10)
        with self._lock:
            self.running -= 1
        return "done"


def somewhere(number: int) -> Origin:
    return Origin("a browser", f"203.0.113.{number}")


async def test_no_network_fills_the_gate() -> None:
    hasher = Stuck()
    passwords = Argon2Passwords(hasher, at_once=2, waiting=4)
    flood = [asyncio.create_task(passwords.hash(WORD, HERE)) for _ in range(20)]
    await asyncio.sleep(0)
    with pytest.raises(PasswordsBusy):
        passwords.refuse_if_full(HERE)
    others = [asyncio.create_task(passwords.hash(WORD, THERE)) for _ in range(2)]
    await asyncio.sleep(0)
    passwords.refuse_if_full(somewhere(1))
    hasher.go.set()
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(result, PasswordHash) for result in results) == 3
    assert sum(isinstance(result, PasswordsBusy) for result in results) == 17
    taken = await asyncio.gather(*others, return_exceptions=True)
    assert [isinstance(result, PasswordHash) for result in taken] == [True, True]
    passwords.refuse_if_full(HERE)
    passwords.close()


async def test_the_gate_holds_few_at_once_few_waiting_and_refuses_the_rest() -> None:
    hasher = Stuck()
    passwords = Argon2Passwords(hasher, at_once=2, waiting=3)
    tasks = [asyncio.create_task(passwords.hash(WORD, somewhere(n))) for n in range(100)]
    refused, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    hasher.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(refused) > 0
    assert sum(isinstance(result, PasswordHash) for result in results) == 5
    assert sum(isinstance(result, PasswordsBusy) for result in results) == 95
    assert hasher.most_running <= 2
    assert (await passwords.hash(WORD, HERE)).encoded == "done"
    passwords.close()


async def test_a_caller_who_leaves_makes_room() -> None:
    hasher = Stuck()
    passwords = Argon2Passwords(hasher, at_once=1, waiting=2)
    running = asyncio.create_task(passwords.hash(WORD, HERE))
    leaving = asyncio.create_task(passwords.hash(WORD, HERE))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    staying = asyncio.create_task(passwords.hash(WORD, HERE))
    await asyncio.sleep(0)
    hasher.go.set()
    assert [(await task).encoded for task in (running, staying)] == ["done", "done"]
    passwords.close()
