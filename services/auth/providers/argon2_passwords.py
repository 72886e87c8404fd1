"""Argon2id, off the event loop and behind a gate."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2
from argon2.exceptions import VerifyMismatchError

from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, PasswordHash
from services.auth.providers.fair_gate import FairGate

T = TypeVar("T")

_SALT_BYTES, _HASH_BYTES = 16, 32


class Argon2Passwords:
    """A few threads, since more of them need more memory and are no faster; a bounded queue before
    them, since a password checked too late helps nobody, and none that one network fills."""

    def __init__(self, hasher: argon2.PasswordHasher, *, at_once: int, waiting: int) -> None:
        self._hasher = hasher
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._gate = FairGate(at_once + waiting)
        self._of_nobody = _unfitting_hash(hasher)

    async def hash(self, password: Password, origin: Origin) -> PasswordHash:
        """Raises PasswordsBusy."""
        return PasswordHash(await self._run(lambda: self._hasher.hash(password.text), origin))

    async def verify(self, password: Password, hash_: PasswordHash | None, origin: Origin) -> bool:
        """Raises PasswordsBusy."""
        encoded = hash_.encoded if hash_ is not None else self._of_nobody
        return await self._run(lambda: self._fits(password, encoded), origin)

    def refuse_if_full(self, origin: Origin) -> None:
        """Raises PasswordsBusy."""
        self._gate.refuse_if_full(origin)

    def is_outdated(self, hash_: PasswordHash) -> bool:
        return self._hasher.check_needs_rehash(hash_.encoded)

    def close(self) -> None:
        """Let the threads go once they are done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fits(self, password: Password, encoded: str) -> bool:
        try:
            return self._hasher.verify(encoded, password.text.encode("utf-8", "surrogatepass"))
        except VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], T], origin: Origin) -> T:
        self._gate.enter(origin)
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(lambda _: self._gate.leave(origin))
        return await future


def _unfitting_hash(hasher: argon2.PasswordHasher) -> str:
    """A hash that no password has, with today's parameters: checking it costs what others cost."""
    salt, hash_ = (
        b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (_SALT_BYTES, _HASH_BYTES)
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${hash_}"
