"""What the keyvault needs of the outside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from services.keyvault.domain.audit import AuditEntry, Kind
from services.keyvault.domain.canary import Canary
from services.keyvault.domain.key_encryption import KeyEncryption
from services.keyvault.domain.key_use import FoundKey, KeyUse
from services.keyvault.domain.keyring import Keyring
from services.keyvault.domain.organisation import SeatNews
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import ProviderKey, Status
from services.keyvault.domain.roots import SealedRoot
from services.keyvault.domain.rotation import Change, Replica
from services.keyvault.domain.secret import DataKey
from services.keyvault.domain.service_use import ServiceStop, Standing, Tally
from shared.erasure import ForgottenUsers
from shared.events import Event
from shared.ids import EventId, UserId
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

    async def of(self, owner: Owner) -> DataKey | None:
        """The owner's; None where nothing is sealed for them."""
        ...

    async def add(self, data_key: DataKey) -> None: ...

    async def shred(self, owner: Owner) -> None:
        """Delete the owner's data key: nothing that was sealed under it opens any more."""
        ...

    async def any_exists(self) -> bool:
        """Whether anything at all is sealed here."""
        ...

    async def claim_older(
        self, version: int, *, after: DataKey | None, most: int
    ) -> Sequence[DataKey]:
        """The next ones, by version and id, that an older version wraps; nobody else may rewrap
        them until the unit of work ends. What somebody else has claimed is left out."""
        ...

    async def replace_wraps(self, wraps: Sequence[tuple[DataKey, DataKey]]) -> int:
        """Wrap each as the second of the pair says, if it is wrapped under the version of the
        first still; answers how many were."""
        ...

    async def count_by_version(self) -> Mapping[int, int]:
        """How many data keys each version wraps."""
        ...


class AuditTrail(Protocol):
    """Lines are added and read, never changed, but for the id of a member who is forgotten; they go
    when their owner does."""

    async def add(self, entry: AuditEntry) -> None: ...

    async def page(self, owner: Owner, *, before: UUID | None, most: int) -> Sequence[AuditEntry]:
        """The owner's lines older than `before`, newest first; a user's with those about what they
        did with their organisation's keys."""
        ...

    async def nth_latest(
        self, owner: Owner, kinds: Collection[Kind], n: int, *, since: datetime
    ) -> datetime | None:
        """When the owner's `n`-th latest line of a kind was added, for each kind by itself and of
        those the latest; None where none has so many since then."""
        ...

    async def erase(self, owner: Owner, *, most: int) -> int:
        """Delete some lines of an owner who is to be forgotten; answers how many."""
        ...

    async def unname(self, member: UserId, *, most: int) -> int:
        """Take a member's id out of some lines about their organisation's keys; answers of how
        many."""
        ...


class Organisations(Protocol):
    """What is known here of organisations."""

    async def note_seats(self, news: Sequence[SeatNews]) -> None:
        """Of one seat the latest news stays."""
        ...

    async def drop_seats(self, *, before: datetime) -> None: ...

    async def forget(self, user_id: UserId) -> None:
        """Forget where a user sat."""
        ...

    async def end(self, organisation_id: UUID, at: datetime) -> None:
        """From now on it exists no more."""
        ...

    async def has_ended(self, organisation_id: UUID) -> bool:
        """Whether it was deleted: its id stays known for good."""
        ...


class Canaries(Protocol):
    """What the keyring is proven against."""

    async def all(self) -> Sequence[Canary]: ...

    async def add_first(self, canaries: Iterable[Canary]) -> bool:
        """Add these unless there are some by now: two processes may start at once.

        Answers whether they were the first.
        """
        ...

    async def add(self, canaries: Iterable[Canary]) -> None:
        """Add those whose version has none yet."""
        ...

    async def hold(self, version: int) -> None:
        """Until the unit of work ends, this version may wrap. Raises VersionClosed."""
        ...

    async def remove(self, version: int) -> None:
        """Nothing is wrapped under this version any more; waits for those who hold it."""
        ...


class Rotation(Protocol):
    """Which process has which version of the keyring, and what was rewrapped."""

    async def report(self, replica: Replica, *, good_for: timedelta) -> None:
        """Tell which versions a process knows; its word is good for so long."""
        ...

    async def leave(self, name: str) -> None:
        """A process ends, and is waited for no more."""
        ...

    async def live(self) -> Sequence[Replica]:
        """Those whose word is good still."""
        ...

    async def count(self, version: int, rewrapped: int) -> None:
        """Add to the number of data keys that were ever rewrapped to this version."""
        ...

    async def counted(self) -> Mapping[int, int]:
        """How many data keys were ever rewrapped to each version."""
        ...


class SealedRoots(Protocol):
    """Roots that lie in the database, wrapped by a key service."""

    async def all(self) -> Sequence[SealedRoot]: ...

    async def save(self, roots: Iterable[SealedRoot]) -> None:
        """Keep these; of one root the latest wrapping stays."""
        ...


class KeyUses(Protocol):
    """The way to a sealed secret that is to be opened."""

    async def note(
        self, use: KeyUse, *, if_status: Collection[Status], most: int = 0
    ) -> FoundKey | None:
        """Note the use in the trail and fetch the secret, both or neither, in one round trip.

        A user's own key goes first; where it is none that fits, the key of the organisation counts
        in which they have a seat.

        Nothing is noted when the key's status or version is another or the grant has been used.
        Raises ServiceStopped, and UserRateReached once the use would be one more than `most` in a
        minute for its user; 0 counts nothing.
        None when there never was such a key.
        """
        ...

    async def note_keyless(self, use: KeyUse, *, most: int = 0) -> bool:
        """Note a call that needs no stored key, by the same rules; False when its grant has been
        used, or its user is gone."""
        ...

    async def note_broken(self, entry: AuditEntry) -> None:
        """Note that a secret could not be opened."""
        ...


class ServiceUses(Protocol):
    """What processes tell each other of services' uses, and the stops of services."""

    async def report(self, process_id: UUID, tally: Tally, at: datetime) -> None:
        """Tell what a process gave away lately; it is one of us from now on."""
        ...

    async def standings(self, process_id: UUID, *, window: timedelta) -> Sequence[Standing]:
        """How each service stands, in the eyes of one process."""
        ...

    async def drop_old(self, *, window: timedelta) -> None:
        """Forget users who were seen before the window, and processes that are gone."""
        ...

    async def stop(self, stop: ServiceStop) -> bool:
        """Answers False when the service was stopped already."""
        ...

    async def resume(self, service: str, *, at: datetime, by: str) -> bool:
        """Lift the stop and forget whom the service served; False when there was no stop."""
        ...

    async def stops(self, *, most: int) -> Sequence[ServiceStop]:
        """The last stops, lifted or not, newest first."""
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
    def rotation(self) -> Rotation: ...

    @property
    def sealed_roots(self) -> SealedRoots: ...

    @property
    def organisations(self) -> Organisations: ...

    @property
    def forgotten(self) -> ForgottenUsers: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None:
        """Tell the other services, if and when this transaction commits."""
        ...

    async def unseen(self, ids: Iterable[EventId]) -> set[EventId]:
        """Those of the ids that were never handled here, marked as handled from now on."""
        ...


NewUnitOfWork = Callable[[], AbstractAsyncContextManager[UnitOfWork]]


class KeyringBook(Protocol):
    """The keyring's file, for the one who may change it."""

    async def read(self) -> Keyring:
        """Raises KeyringRefused."""
        ...

    async def change(self, change: Change) -> Keyring:
        """Replace the document by what `change` makes of it: one at a time, whole or not at all.

        Raises KeyringRefused, and what `change` raises.
        """
        ...


class KeyEncryptionSource(Protocol):
    """Where the key-encryption keys are."""

    async def read(self) -> KeyEncryption:
        """The keys as they are now. Raises KeyringRefused or DependencyUnavailable."""
        ...


class KeyAdmins(Protocol):
    """auth, asked who decides about an organisation's keys."""

    async def may_manage_keys(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        """None for somebody who does not belong to it. Raises DependencyUnavailable."""
        ...


class KeyChecker(Protocol):
    """Asks a vendor what it thinks of a key."""

    async def check(self, provider: str, api_key: str) -> Check:
        """The vendor's word. One that could not tell raises nothing: that is a word too."""
        ...
