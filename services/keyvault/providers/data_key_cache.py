"""Data keys kept unwrapped for a moment, so that a key service is not asked for each call."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

from services.keyvault.domain.envelope import DataKeyPlace, wipe
from services.keyvault.domain.key_encryption import (
    KekPlace,
    KekState,
    PlaceFor,
    Wrapped,
)
from services.keyvault.providers.remote_kek import RemoteKeyEncryption
from shared.values import dataclass

_MOST = 10_000  # 32 bytes each; a process sees fewer users than that in a minute


@dataclass(slots=True)
class _Kept:
    """A data key as it was unwrapped, and what it was unwrapped from."""

    owner_id: UUID
    key: bytearray
    good_until: float
    end: asyncio.TimerHandle | None = None

    def wipe(self) -> None:
        wipe(self.key)
        if self.end is not None:
            self.end.cancel()


class CachedKeyEncryption:
    """Keeps unwrapped data keys for a minute at most, and wipes them at its end.

    What is asked for must be the very envelope in the very place that was unwrapped: a shredded or
    replaced data key can't be had from here. Canaries and roots are never kept, so that each
    examination really asks.
    """

    is_remote = True
    fingerprint_keys = None

    def __init__(
        self,
        inner: RemoteKeyEncryption,
        *,
        seconds: float,
        most: int = _MOST,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = inner.name
        self._inner = inner
        self._seconds = seconds
        self._most = most
        self._now = now
        self._kept: OrderedDict[tuple[bytes, bytes], _Kept] = OrderedDict()
        self._asking: dict[tuple[bytes, bytes], asyncio.Lock] = {}
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def read(self) -> CachedKeyEncryption:
        """Ask the service which versions there are now."""
        await self._inner.look()
        return self

    async def state(self) -> KekState:
        return await self._inner.state()

    async def wrap(
        self, content: bytes | bytearray, place_for: PlaceFor, *, version: int | None = None
    ) -> Wrapped:
        before = self._forgotten
        wrapped = await self._inner.wrap(content, place_for, version=version)
        place = place_for(wrapped.version)
        # Copied only now: a service that fails would leave a copy here that nobody wipes.
        if isinstance(place, DataKeyPlace) and before == self._forgotten:
            self._keep((wrapped.envelope, place.bound_to), place, bytearray(content))
        return wrapped

    async def unwrap(self, version: int, envelope: bytes, place: KekPlace) -> bytearray:
        if not isinstance(place, DataKeyPlace) or not self._seconds:
            return await self._inner.unwrap(version, envelope, place)
        name = (envelope, place.bound_to)
        if (found := self._find(name)) is not None:
            return found
        # Of many calls for one user, one asks and the others wait for it.
        lock = self._asking.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                if (found := self._find(name)) is not None:
                    return found
                before = self._forgotten
                key = await self._inner.unwrap(version, envelope, place)
                if before == self._forgotten:
                    self._keep(name, place, bytearray(key))
                return key
        finally:
            if not lock.locked():
                self._asking.pop(name, None)

    async def rewrap(
        self, version: int, envelope: bytes, place: KekPlace, place_for: PlaceFor
    ) -> Wrapped:
        return await self._inner.rewrap(version, envelope, place, place_for)

    def forget(self, owner_id: UUID | None = None) -> None:
        # Also what is being asked for at this moment must not be kept when it comes.
        self._forgotten += 1
        for name, kept in list(self._kept.items()):
            if owner_id is None or kept.owner_id == owner_id:
                self._drop(name)

    def close(self) -> None:
        """Wipe everything and let go of the service."""
        self.forget()
        self._inner.close()

    def _find(self, name: tuple[bytes, bytes]) -> bytearray | None:
        kept = self._kept.get(name)
        if kept is None:
            return None
        if self._now() >= kept.good_until:
            self._drop(name)
            return None
        return bytearray(kept.key)

    def _keep(self, name: tuple[bytes, bytes], place: DataKeyPlace, key: bytearray) -> None:
        self._drop(name)
        while len(self._kept) >= self._most:
            self._drop(next(iter(self._kept)))
        kept = _Kept(place.owner_id, key, self._now() + self._seconds)
        # By a timer too: what nobody asks for again must not lie there until somebody does.
        kept.end = asyncio.get_running_loop().call_later(self._seconds, self._drop, name)
        self._kept[name] = kept

    def _drop(self, name: tuple[bytes, bytes]) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            kept.wipe()
