"""What the keyvault needs of the outside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from services.keyvault.domain.audit import AuditEntry
from services.keyvault.domain.canary import Canary
from services.keyvault.domain.key_use import FoundKey, KeyUse
from services.keyvault.domain.keyring import Keyring
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import ProviderKey, Status
from services.keyvault.domain.secret import DataKey
from shared.erasure import ForgottenUsers
from shared.events import Event
from shared.ids import EventId
from shared.vendors import Check


class Keys(Protocol):
    """The users' keys."""

    async def lock(self, owner: Owner) -> None:
        """Until the unit of work ends, nobody else changes which keys this owner has."""
        ...

    async def of(self, owner: Owner) -> Sequence[ProviderKey]:
        """The owner's live keys, by provider."""
        ...

    async def find(self, owner: Owner, provider: str) -> ProviderKey | None:
        """The owner's key for a provider, withdrawn ones included; locked for a change."""
        ...

    async def save(self, key: ProviderKey) -> None: ...

    async def delete_all(self, owner: Owner) -> None:
        """Delete the owner's keys, withdrawn ones included: not even their versions are left."""
        ...

    async def claim_due(
        self, now: datetime, *, put_off_until: datetime, most: int
    ) -> Sequence[ProviderKey]:
        """Keys whose next check is due; it is put off, so that each is claimed by one of us."""
        ...


class DataKeys(Protocol):
    """The owners' data keys."""

    async def of(self, owner: Owner) -> DataKey | None: ...

    async def add(self, data_key: DataKey) -> None: ...

    async def shred(self, owner: Owner) -> None:
        """Delete the owner's data key: nothing that was sealed under it opens any more."""
        ...

    async def any_exists(self) -> bool: ...


class AuditTrail(Protocol):
    """Lines are added and read, never changed; they go when their owner does."""

    async def add(self, entry: AuditEntry) -> None: ...

    async def page(self, owner: Owner, *, before: UUID | None, most: int) -> Sequence[AuditEntry]:
        """The owner's lines older than `before`, newest first."""
        ...

    async def erase(self, owner: Owner, *, most: int) -> int:
        """Delete some lines of an owner who is to be forgotten; answers how many."""
        ...


class Canaries(Protocol):
    """What the keyring is proven against."""

    async def all(self) -> Sequence[Canary]: ...

    async def add_first(self, canaries: Iterable[Canary]) -> None:
        """Add these unless there are some by now: two processes may start at once."""
        ...


class KeyUses(Protocol):
    """The way to a sealed secret that is to be opened."""

    async def note(self, use: KeyUse, *, if_status: Collection[Status]) -> FoundKey | None:
        """Note the use in the trail and fetch the secret, both or neither, in one round trip.

        Nothing is noted when the key's status or version is another or the grant has been used.
        None when there never was such a key.
        """
        ...

    async def note_broken(self, entry: AuditEntry) -> None:
        """Note that a secret could not be opened."""
        ...


class UnitOfWork(Protocol):
    """One transaction: what it changes and what it tells commit together."""

    @property
    def keys(self) -> Keys: ...

    @property
    def data_keys(self) -> DataKeys: ...

    @property
    def audit(self) -> AuditTrail: ...

    @property
    def canaries(self) -> Canaries: ...

    @property
    def forgotten(self) -> ForgottenUsers: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None: ...

    async def unseen(self, ids: Iterable[EventId]) -> set[EventId]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


NewUnitOfWork = Callable[[], UnitOfWork]


class KeyringSource(Protocol):
    """Where the keyring is kept."""

    async def read(self) -> Keyring:
        """Raises KeyringRefused."""
        ...


class KeyChecker(Protocol):
    """Asks a vendor what it thinks of a key."""

    async def check(self, provider: str, api_key: str) -> Check: ...
