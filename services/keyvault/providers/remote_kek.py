"""Key-encryption keys in a key service on another machine: threads, time limits, envelopes.

The kits of such services block. They run in threads of their own, so that a service that hangs
holds up neither the event loop nor other work, and nobody waits for longer than the time limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar
from uuid import UUID

import structlog

from services.keyvault.domain.envelope import KEY_BYTES, DataKeyPlace, NotAuthentic
from services.keyvault.domain.key_encryption import KekPlace, KekState, PlaceFor, Wrapped
from services.keyvault.domain.keyring import KeyringRefused, KeyState
from shared.errors import DependencyUnavailable

log = structlog.get_logger(__name__)

_FORMAT = b"kv1"
_THREADS = 8
T = TypeVar("T")


class KeyService(Protocol):
    """A key service, through its own kit. All of it blocks.

    Raises KeyringRefused when the key is not there or not ours to use, NotAuthentic for what it did
    not encrypt for this place, and anything else when it can't be reached.
    """

    name: str
    # Stands in the envelope, so that one service is never asked about what another has wrapped.
    algorithm: bytes

    def versions(self) -> Mapping[int, KeyState]:
        """Which versions there are, and what each may do."""
        ...

    def encrypt(self, version: int, content: bytes, place: KekPlace) -> bytes:
        """Under this version, bound to this place."""
        ...

    def decrypt(self, version: int, ciphertext: bytes, place: KekPlace) -> bytes:
        """What was encrypted under this version for this place."""
        ...

    def reencrypt(
        self, version: int, ciphertext: bytes, place: KekPlace, to: int, new_place: KekPlace
    ) -> bytes:
        """From one version and place to another; inside the service if it can."""
        ...

    def close(self) -> None:
        """Let go of connections; nothing is asked afterwards."""
        ...


class RemoteKeyEncryption:
    """The keys of a key service."""

    is_remote = True
    fingerprint_keys = None

    def __init__(self, service: KeyService, *, installation: str, timeout_seconds: float) -> None:
        self.name = service.name
        self._service = service
        self._installation = installation
        self._timeout_seconds = timeout_seconds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="key-service")
        self._state: KekState | None = None

    async def look(self) -> None:
        """Ask which versions there are now."""
        versions = await self._ask(self._service.versions)
        active = [version for version, state in versions.items() if state is KeyState.ACTIVE]
        if len(active) != 1:
            raise KeyringRefused("keyring_without_active_key")
        self._state = KekState(self._installation, active[0], versions)

    async def state(self) -> KekState:
        if self._state is None:
            await self.look()
        if self._state is None:  # pragma: no cover - look() sets it or raises
            raise KeyringRefused("kek_missing")
        return self._state

    async def wrap(
        self, content: bytes | bytearray, place_for: PlaceFor, *, version: int | None = None
    ) -> Wrapped:
        version = await self._known(version)
        place, plain = place_for(version), bytes(content)
        ciphertext = await self._ask(
            lambda: _longer_than(len(plain), self._service.encrypt(version, plain, place))
        )
        return Wrapped(version, self._head(place) + ciphertext)

    async def unwrap(self, version: int, envelope: bytes, place: KekPlace) -> bytearray:
        await self._known(version)
        ciphertext = self._content(envelope, place)
        return bytearray(
            await self._ask(
                lambda: _fit_for(place, self._service.decrypt(version, ciphertext, place))
            )
        )

    async def rewrap(
        self, version: int, envelope: bytes, place: KekPlace, place_for: PlaceFor
    ) -> Wrapped:
        await self._known(version)
        active = (await self.state()).active
        ciphertext, to = self._content(envelope, place), place_for(active)
        moved = await self._ask(
            lambda: _longer_than(
                KEY_BYTES, self._service.reencrypt(version, ciphertext, place, active, to)
            )
        )
        return Wrapped(active, self._head(to) + moved)

    def forget(self, owner_id: UUID | None = None) -> None:
        """Nothing is kept here."""

    def close(self) -> None:
        """Let go of the service. A call that still hangs ends by its own time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._service.close()

    async def _known(self, version: int | None) -> int:
        state = await self.state()
        version = state.active if version is None else version
        if version > max(state.versions):
            # Another process may have heard of it a moment before us.
            await self.look()
            state = await self.state()
        if version not in state.usable:
            raise KeyringRefused("keyring_lacks_a_version")
        return version

    async def _ask(self, question: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        with self._translated():
            async with asyncio.timeout(self._timeout_seconds):
                return await loop.run_in_executor(self._threads, question)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (KeyringRefused, NotAuthentic):
            raise
        except Exception as error:
            # The kits fail in dozens of ways, and their messages may quote what was sent.
            log.warning("key_service_unreachable", provider=self.name, error=type(error).__name__)
            raise DependencyUnavailable("key service") from None

    def _head(self, place: KekPlace) -> bytes:
        return _FORMAT + self._service.algorithm + place.key_name

    def _content(self, envelope: bytes, place: KekPlace) -> bytes:
        head = self._head(place)
        if not envelope.startswith(head):
            raise NotAuthentic("not an envelope for this place")
        return envelope[len(head) :]


def _longer_than(content: int, ciphertext: bytes) -> bytes:
    """The ciphertext. Raises ValueError for an answer that holds nothing: it would be kept in place
    of what opens a user's keys."""
    if len(ciphertext) <= content:
        raise ValueError("no ciphertext")
    return ciphertext


def _fit_for(place: KekPlace, content: bytes) -> bytes:
    """The content. Raises ValueError for a data key that is none."""
    if isinstance(place, DataKeyPlace) and len(content) != KEY_BYTES:
        raise ValueError("no data key")
    return content
