"""Builders and in-memory ports of the keyvault."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from services.keyvault.actions import (
    DropOldSeats,
    EndOrganisation,
    EnterOrganisation,
    ExamineVault,
    ForgetUser,
    LimitChecks,
    ListKeys,
    NoteSeats,
    ReadAudit,
    RequestDueValidations,
    RequestValidation,
    ResumeService,
    RevokeKey,
    ShowKey,
    ShowServices,
    StopService,
    StoreKey,
    UseKey,
    ValidateKeys,
    WatchUses,
)
from services.keyvault.domain.audit import AuditEntry, Kind
from services.keyvault.domain.canary import Canary, Purpose
from services.keyvault.domain.errors import ServiceStopped, UserRateReached, VersionClosed
from services.keyvault.domain.fingerprint import FingerprintKeys
from services.keyvault.domain.key_encryption import KeyringEncryption
from services.keyvault.domain.key_use import FoundKey, KeyUse
from services.keyvault.domain.keyring import Keyring, KeyringRefused
from services.keyvault.domain.organisation import ClaimedSeat, SeatNews
from services.keyvault.domain.own_server import OwnServer
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.policy import SERVICES
from services.keyvault.domain.provider_key import ProviderKey, Status
from services.keyvault.domain.roots import Roots, SealedRoot
from services.keyvault.domain.rotation import Replica
from services.keyvault.domain.secret import DataKey
from services.keyvault.domain.service_use import (
    ServiceStop,
    Standing,
    Tally,
    UseLimits,
    UseMeter,
)
from services.keyvault.domain.vault import Vault
from shared.errors import DependencyUnavailable
from shared.events import Event
from shared.identity import Grant
from shared.ids import EventId, UserId, uuid7
from shared.vendors import Check, KeyStatus
from tests.support.clocks import NOON as NOON
from tests.support.clocks import StoppedClock as StoppedClock
from tests.support.erasure import MemoryForgottenUsers

ada = UserId(UUID("00000000-0000-7000-8000-00000000ada0"))
grace = UserId(UUID("00000000-0000-7000-8000-0000000face0"))

A_MINUTE = timedelta(minutes=1)

VALID = Check(KeyStatus.VALID, models=("gpt-6-luna",), capabilities=("function_calling",))


def example_key(number: int) -> bytes:
    """A key that tests know for ever; a keyring's file with it would be refused."""
    return bytes((number + step) % 256 for step in range(32))


def a_keyring(*versions: int, active: int | None = None, environment: str = "test") -> Keyring:
    """A keyring of example keys, which depend on the version alone."""
    versions = versions or (1,)
    return Keyring(
        environment=environment,
        active=active or versions[-1],
        keys={version: example_key(version) for version in versions},
        fingerprint_keys={1: example_key(100)},
    )


def roots_of(keyring: Keyring) -> Roots:
    """What a vault holds that was opened with this keyring."""
    return Roots(
        KeyringEncryption(keyring), keyring.environment, FingerprintKeys(keyring.fingerprint_keys)
    )


def a_document(keyring: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """A copy of a keyring's document with other parts."""
    return {**deepcopy(dict(keyring)), **parts}


def encoded(key: bytes) -> str:
    """A key as a keyring's file holds it."""
    return b64encode(key).decode()


def write_keyring(path: Path, document: Any, *, mode: int = 0o600) -> Path:
    """Put a keyring's file in place, as an operator would."""
    draft = path.with_suffix(".draft")
    draft.write_text(document if isinstance(document, str) else json.dumps(document))
    draft.chmod(mode)
    draft.replace(path)
    return path


def a_grant(user: UserId = ada, **parts: Any) -> Grant:
    """chat's word that it needs the user's key at OpenAI."""
    grant = Grant(
        grant_id=uuid7(), service="chat", user_id=user, provider="openai", request_id="request-1"
    )
    return replace(grant, **parts)


@dataclass
class MemoryStore:
    """What the database would hold, and what was published."""

    keys: dict[tuple[Owner, str], ProviderKey] = field(default_factory=dict)
    data_keys: dict[Owner, DataKey] = field(default_factory=dict)
    trail: list[AuditEntry] = field(default_factory=list)
    canaries: list[Canary] = field(default_factory=list)
    sealed_roots: dict[tuple[str, int], SealedRoot] = field(default_factory=dict)
    granted: set[UUID] = field(default_factory=set)
    seen: set[EventId] = field(default_factory=set)
    published: list[tuple[Event, UUID, str]] = field(default_factory=list)
    forgotten: MemoryForgottenUsers = field(default_factory=MemoryForgottenUsers)
    replicas: dict[str, Replica] = field(default_factory=dict)
    rewrapped: dict[int, int] = field(default_factory=dict)
    organisations: MemoryOrganisations = field(default_factory=lambda: MemoryOrganisations())
    told: dict[UUID, Mapping[str, int]] = field(default_factory=dict)
    served: dict[str, set[UserId]] = field(default_factory=dict)
    stops: list[ServiceStop] = field(default_factory=list)
    is_down: bool = False
    noted: list[KeyUse] = field(default_factory=list)

    def stop_of(self, service: str) -> ServiceStop | None:
        """The stop of a service that is in force."""
        in_force = [s for s in self.stops if s.service == service and s.resumed_at is None]
        return in_force[0] if in_force else None

    def key(self, provider: str = "openai", *, of: UserId = ada) -> ProviderKey:
        """The key that is stored."""
        return self.keys[Owner.user(of), provider]

    def events(self, kind: type[Event]) -> list[Event]:
        """The published events of one type."""
        return [event for event, _, _ in self.published if isinstance(event, kind)]


class MemoryWork:
    """A transaction on a copy of the store, kept only if nothing fails."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._draft = store

    async def __aenter__(self) -> Self:
        if self._store.is_down:
            raise DependencyUnavailable("database")
        self._draft = replace(
            self._store,
            keys=dict(self._store.keys),
            data_keys=dict(self._store.data_keys),
            trail=list(self._store.trail),
            canaries=list(self._store.canaries),
            sealed_roots=dict(self._store.sealed_roots),
            seen=set(self._store.seen),
            rewrapped=dict(self._store.rewrapped),
            published=list(self._store.published),
            forgotten=replace(self._store.forgotten, rows=dict(self._store.forgotten.rows)),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            vars(self._store).update(vars(self._draft))

    @property
    def keys(self) -> MemoryKeys:
        return MemoryKeys(self._draft)

    @property
    def data_keys(self) -> MemoryDataKeys:
        return MemoryDataKeys(self._draft)

    @property
    def audit(self) -> MemoryTrail:
        return MemoryTrail(self._draft)

    @property
    def canaries(self) -> MemoryCanaries:
        return MemoryCanaries(self._draft)

    @property
    def sealed_roots(self) -> MemorySealedRoots:
        return MemorySealedRoots(self._draft)

    @property
    def organisations(self) -> MemoryOrganisations:
        return self._draft.organisations

    @property
    def rotation(self) -> MemoryRotation:
        return MemoryRotation(self._draft)

    @property
    def forgotten(self) -> MemoryForgottenUsers:
        return self._draft.forgotten

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None:
        self._draft.published.append((event, subject, tier))

    async def unseen(self, ids: Iterable[EventId]) -> set[EventId]:
        fresh = set(ids) - self._draft.seen
        self._draft.seen |= fresh
        return fresh


@dataclass
class MemoryKeys:
    """Keys in a dictionary."""

    draft: MemoryStore

    async def lock(self, owner: Owner) -> None:
        """Nothing runs beside a test."""

    async def of(self, owner: Owner) -> Sequence[ProviderKey]:
        return [
            key for (whose, _), key in self.draft.keys.items() if whose == owner and key.is_live
        ]

    async def find(self, owner: Owner, provider: str) -> ProviderKey | None:
        return self.draft.keys.get((owner, provider))

    async def save(self, key: ProviderKey) -> None:
        self.draft.keys[key.owner, key.provider] = key

    async def delete_all(self, owner: Owner) -> None:
        for whose, provider in list(self.draft.keys):
            if whose == owner:
                del self.draft.keys[whose, provider]

    async def claim_due(
        self, now: datetime, *, put_off_until: datetime, most: int
    ) -> Sequence[ProviderKey]:
        due = [
            replace(key, next_check_at=put_off_until, check_requested_at=now)
            for key in self.draft.keys.values()
            if key.is_live and key.next_check_at is not None and key.next_check_at <= now
        ][:most]
        for key in due:
            await self.save(key)
        return due


@dataclass
class MemoryDataKeys:
    """Data keys in a dictionary."""

    draft: MemoryStore

    async def of(self, owner: Owner) -> DataKey | None:
        return self.draft.data_keys.get(owner)

    async def add(self, data_key: DataKey) -> None:
        self.draft.data_keys[data_key.owner] = data_key

    async def shred(self, owner: Owner) -> None:
        self.draft.data_keys.pop(owner, None)

    async def any_exists(self) -> bool:
        return bool(self.draft.data_keys)

    async def claim_older(
        self, version: int, *, after: DataKey | None, most: int
    ) -> Sequence[DataKey]:
        last = (after.kek_version, after.id) if after else (0, UUID(int=0))
        older = sorted(
            (key for key in self.draft.data_keys.values() if key.kek_version < version),
            key=lambda key: (key.kek_version, key.id),
        )
        return [key for key in older if (key.kek_version, key.id) > last][:most]

    async def replace_wraps(self, wraps: Sequence[tuple[DataKey, DataKey]]) -> int:
        current = [fresh for known, fresh in wraps if self.draft.data_keys[known.owner] == known]
        self.draft.data_keys |= {fresh.owner: fresh for fresh in current}
        return len(current)

    async def count_by_version(self) -> Mapping[int, int]:
        return Counter(key.kek_version for key in self.draft.data_keys.values())


@dataclass
class MemoryRotation:
    """Who has which keyring, in dictionaries; everybody's word is good for ever."""

    draft: MemoryStore

    async def report(self, replica: Replica, *, good_for: timedelta) -> None:
        self.draft.replicas[replica.name] = replica

    async def leave(self, name: str) -> None:
        self.draft.replicas.pop(name, None)

    async def live(self) -> Sequence[Replica]:
        return list(self.draft.replicas.values())

    async def count(self, version: int, rewrapped: int) -> None:
        self.draft.rewrapped[version] = self.draft.rewrapped.get(version, 0) + rewrapped

    async def counted(self) -> Mapping[int, int]:
        return self.draft.rewrapped


@dataclass
class MemoryTrail:
    """The trail in a list."""

    draft: MemoryStore

    async def add(self, entry: AuditEntry) -> None:
        self.draft.trail.append(entry)

    async def page(self, owner: Owner, *, before: UUID | None, most: int) -> Sequence[AuditEntry]:
        lines = sorted(
            (
                line
                for line in self.draft.trail
                if line.owner == owner
                or (line.owner.organisation_id and line.user_id == owner.user_id)
            ),
            key=lambda line: line.id,
            reverse=True,
        )
        return [line for line in lines if before is None or line.id < before][:most]

    async def nth_latest(
        self, owner: Owner, kinds: Collection[Kind], n: int, *, since: datetime
    ) -> datetime | None:
        lines: list[AuditEntry | KeyUse] = [*self.draft.trail, *self.draft.noted]
        lately = [line for line in lines if line.owner == owner and line.at >= since]
        found = [sorted(line.at for line in lately if line.kind is kind)[-n:] for kind in kinds]
        return max((times[0] for times in found if len(times) == n), default=None)

    async def erase(self, owner: Owner, *, most: int) -> int:
        gone = [line for line in self.draft.trail if line.owner == owner][:most]
        self.draft.trail = [line for line in self.draft.trail if line not in gone]
        return len(gone)

    async def unname(self, member: UserId, *, most: int) -> int:
        theirs = [
            line
            for line in self.draft.trail
            if line.owner.organisation_id and line.user_id == member
        ][:most]
        self.draft.trail = [
            replace(line, user_id=None) if line in theirs else line for line in self.draft.trail
        ]
        return len(theirs)


@dataclass
class MemoryOrganisations:
    """Seats and ended organisations in dictionaries."""

    seats: dict[tuple[UserId, UUID], SeatNews] = field(default_factory=dict)
    ended: set[UUID] = field(default_factory=set)

    async def note_seats(self, news: Sequence[SeatNews]) -> None:
        for told in sorted(news, key=lambda told: told.at):
            known = self.seats.get((told.user_id, told.organisation_id))
            if known is None or known.at < told.at:
                self.seats[told.user_id, told.organisation_id] = told

    async def drop_seats(self, *, before: datetime) -> None:
        self.seats = {seat: told for seat, told in self.seats.items() if told.at >= before}

    async def forget(self, user_id: UserId) -> None:
        self.seats = {seat: told for seat, told in self.seats.items() if seat[0] != user_id}

    async def end(self, organisation_id: UUID, at: datetime) -> None:
        self.ended.add(organisation_id)

    async def has_ended(self, organisation_id: UUID) -> bool:
        return organisation_id in self.ended

    def is_taken(self, user_id: UserId, claimed: ClaimedSeat) -> bool:
        """Whether the seat is taken, by the news or the token, whichever is newer."""
        told = self.seats.get((user_id, claimed.organisation_id))
        return told.is_taken if told and told.at >= claimed.news_counts_from else claimed.is_taken


@dataclass
class FixedKeyAdmins:
    """auth, as it would answer; None while it is out of reach."""

    may: dict[tuple[UUID, UserId], bool] | None = field(default_factory=dict)

    async def may_manage_keys(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        if self.may is None:
            raise DependencyUnavailable("account service")
        return self.may.get((organisation_id, user_id))


@dataclass
class MemoryCanaries:
    """Canaries in a list."""

    draft: MemoryStore

    async def all(self) -> Sequence[Canary]:
        return list(self.draft.canaries)

    async def add_first(self, canaries: Iterable[Canary]) -> bool:
        if self.draft.canaries:
            return False
        self.draft.canaries.extend(canaries)
        return True

    async def add(self, canaries: Iterable[Canary]) -> None:
        known = {(canary.purpose, canary.version) for canary in self.draft.canaries}
        self.draft.canaries.extend(
            canary for canary in canaries if (canary.purpose, canary.version) not in known
        )

    async def hold(self, version: int) -> None:
        if (Purpose.WRAPPING, version) not in {(c.purpose, c.version) for c in self.draft.canaries}:
            raise VersionClosed(version)

    async def remove(self, version: int) -> None:
        self.draft.canaries[:] = [
            canary
            for canary in self.draft.canaries
            if (canary.purpose, canary.version) != (Purpose.WRAPPING, version)
        ]


@dataclass
class MemorySealedRoots:
    """Sealed roots in a dictionary."""

    draft: MemoryStore

    async def all(self) -> Sequence[SealedRoot]:
        return list(self.draft.sealed_roots.values())

    async def save(self, roots: Iterable[SealedRoot]) -> None:
        self.draft.sealed_roots |= {(root.purpose, root.version): root for root in roots}


@dataclass
class MemoryKeyUses:
    """The way to a sealed secret, over the same store."""

    store: MemoryStore

    @property
    def noted(self) -> list[KeyUse]:
        return self.store.noted

    async def note(
        self, use: KeyUse, *, if_status: Collection[Status], most: int = 0
    ) -> FoundKey | None:
        self._let_through(use, most)
        key = self._chosen(use, if_status)
        if key is None:
            return None
        fits = key.status in if_status and use.version in {None, key.version}
        is_noted = fits and use.grant_id not in self.store.granted
        if is_noted:
            self.noted.append(use)
            self.store.granted |= {use.grant_id} if use.grant_id else set()
        return FoundKey(
            name=key.name,
            status=key.status,
            data_key=self.store.data_keys.get(key.owner),
            envelope=key.secret.envelope if key.secret else None,
            is_noted=is_noted,
        )

    async def note_keyless(self, use: KeyUse, *, most: int = 0) -> bool:
        self._let_through(use, most)
        if use.grant_id in self.store.granted or use.owner.user_id in self.store.forgotten.rows:
            return False
        self.noted.append(use)
        self.store.granted |= {use.grant_id} if use.grant_id else set()
        return True

    def _let_through(self, use: KeyUse, most: int) -> None:
        if self.store.is_down:
            raise DependencyUnavailable("database")
        if self.store.stop_of(use.service):
            raise ServiceStopped
        lately = [n for n in self.noted if n.owner == use.owner and n.at > use.at - A_MINUTE]
        if 0 < most <= len(lately):
            raise UserRateReached

    def _chosen(self, use: KeyUse, if_status: Collection[Status]) -> ProviderKey | None:
        """The owner's own before the organisation's, but one that fits before one that doesn't."""
        owners, seat = [use.owner], use.seat
        member = use.owner.user_id
        is_gone = member in self.store.forgotten.rows
        if seat and member and not is_gone and self.store.organisations.is_taken(member, seat):
            owners.append(Owner.organisation(seat.organisation_id))
        keys = [key for o in owners if (key := self.store.keys.get((o, use.provider)))]
        return min(
            keys, key=lambda key: (key.status not in if_status, not key.is_live), default=None
        )

    async def note_broken(self, entry: AuditEntry) -> None:
        self.store.trail.append(entry)


@dataclass
class MemoryServiceUses:
    """What processes tell each other, over the same store; nothing grows old."""

    store: MemoryStore

    async def report(self, process_id: UUID, tally: Tally, at: datetime) -> None:
        if self.store.is_down:
            raise DependencyUnavailable("database")
        self.store.told[process_id] = tally.per_second(at)
        for service, users in tally.users.items():
            self.store.served.setdefault(service, set()).update(users)

    async def standings(self, process_id: UUID, *, window: timedelta) -> Sequence[Standing]:
        return [
            Standing(
                service,
                users=len(self.store.served.get(service, ())),
                elsewhere=sum(
                    uses.get(service, 0)
                    for other, uses in self.store.told.items()
                    if other != process_id
                ),
                processes=len(self.store.told),
                stop=self.store.stop_of(service),
            )
            for service in SERVICES
        ]

    async def drop_old(self, *, window: timedelta) -> None:
        self.store.served.clear()

    async def stop(self, stop: ServiceStop) -> bool:
        if self.store.stop_of(stop.service):
            return False
        self.store.stops.append(stop)
        return True

    async def resume(self, service: str, *, at: datetime, by: str) -> bool:
        stop = self.store.stop_of(service)
        if stop is None:
            return False
        self.store.stops.remove(stop)
        self.store.stops.append(replace(stop, resumed_at=at, resumed_by=by))
        self.store.served.pop(service, None)
        return True

    async def stops(self, *, most: int) -> Sequence[ServiceStop]:
        return self.store.stops[::-1][:most]


@dataclass
class MemoryKeyring:
    """A keyring's place, which may be empty."""

    keyring: Keyring | None = None
    reason: str = "keyring_missing"

    async def read(self) -> KeyringEncryption:
        if self.keyring is None:
            raise KeyringRefused(self.reason)
        return KeyringEncryption(self.keyring)


@dataclass
class ScriptedChecker:
    """A vendor that says what it is told to say, and remembers which keys it was asked about."""

    answers: dict[str, Check] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def check(self, provider: str, api_key: str) -> Check:
        self.asked.append((provider, api_key))
        return self.answers.get(provider, VALID)


@dataclass
class Desk:
    """All verbs on one in-memory store, with the vault open."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: StoppedClock = field(default_factory=StoppedClock)
    checker: ScriptedChecker = field(default_factory=ScriptedChecker)
    source: Any = field(default_factory=lambda: MemoryKeyring(a_keyring()))
    vault: Vault = field(default_factory=Vault)
    limits: UseLimits = field(default_factory=UseLimits)
    key_admins: FixedKeyAdmins = field(default_factory=FixedKeyAdmins)
    own_server: OwnServer | None = None
    checks_per_minute: int = 0

    def __post_init__(self) -> None:
        self.key_uses = MemoryKeyUses(self.store)
        self.examine_vault = ExamineVault(self.source, self.work, self.vault, may_begin=True)
        limit = LimitChecks(self.clock, self.checks_per_minute)
        self.store_key = StoreKey(self.work, self.vault, self.clock, limit)
        self.list_keys = ListKeys(self.work)
        self.show_key = ShowKey(self.work)
        self.request_validation = RequestValidation(self.work, self.vault, self.clock, limit)
        self.request_due = RequestDueValidations(self.work, self.clock)
        self.revoke_key = RevokeKey(self.work, self.clock, self.vault)
        self.service_uses = MemoryServiceUses(self.store)
        self.meter = UseMeter(self.limits, self.clock.now())
        self.use_key = UseKey(
            self.key_uses,
            self.vault,
            self.clock,
            self.meter,
            self.limits.uses_per_user_minute,
            self.own_server,
        )
        self.watch_uses = WatchUses(self.service_uses, self.meter, self.limits, self.clock)
        self.stop_service = StopService(self.service_uses, self.clock)
        self.resume_service = ResumeService(self.service_uses, self.clock)
        self.show_services = ShowServices(self.service_uses, self.limits)
        self.read_audit = ReadAudit(self.work)
        self.forget_user = ForgetUser(self.work, self.clock, self.vault)
        self.enter_organisation = EnterOrganisation(self.key_admins)
        self.note_seats = NoteSeats(self.work)
        self.drop_old_seats = DropOldSeats(self.work, self.clock)
        self.end_organisation = EndOrganisation(self.work, self.clock, self.vault)
        self.validate_keys = ValidateKeys(
            self.work, self.key_uses, self.checker, self.examine_vault, self.vault, self.clock
        )

    def work(self) -> MemoryWork:
        return MemoryWork(self.store)


async def an_open_desk(**parts: Any) -> Desk:
    """A desk whose vault has been examined and found good."""
    desk = Desk(**parts)
    await desk.examine_vault()
    return desk
