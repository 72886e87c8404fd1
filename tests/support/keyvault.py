"""Builders and in-memory ports of the keyvault."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from services.keyvault.actions import (
    ExamineVault,
    ForgetUser,
    ListKeys,
    ReadAudit,
    RequestDueValidations,
    RequestValidation,
    RevokeKey,
    ShowKey,
    StoreKey,
    UseKey,
    ValidateKeys,
)
from services.keyvault.domain.audit import AuditEntry
from services.keyvault.domain.canary import Canary
from services.keyvault.domain.key_use import FoundKey, KeyUse
from services.keyvault.domain.keyring import Keyring, KeyringRefused
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import ProviderKey, Status
from services.keyvault.domain.secret import DataKey
from services.keyvault.domain.vault import Vault
from shared.errors import DependencyUnavailable
from shared.events import Event
from shared.identity import Grant
from shared.ids import EventId, UserId, uuid7
from shared.vendors import Check, KeyStatus
from tests.support.erasure import MemoryForgottenUsers

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ada = UserId(UUID("00000000-0000-7000-8000-00000000ada0"))
grace = UserId(UUID("00000000-0000-7000-8000-0000000face0"))

VALID = Check(KeyStatus.VALID, models=("gpt-6-luna",), capabilities=("function_calling",))


class StoppedClock:
    """Always the same time, until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def forward(self, by: timedelta) -> None:
        self._now += by


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
    granted: set[UUID] = field(default_factory=set)
    seen: set[EventId] = field(default_factory=set)
    published: list[tuple[Event, UUID, str]] = field(default_factory=list)
    forgotten: MemoryForgottenUsers = field(default_factory=MemoryForgottenUsers)
    is_down: bool = False

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
            seen=set(self._store.seen),
            published=list(self._store.published),
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
            replace(key, next_check_at=put_off_until)
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


@dataclass
class MemoryTrail:
    """The trail in a list."""

    draft: MemoryStore

    async def add(self, entry: AuditEntry) -> None:
        self.draft.trail.append(entry)

    async def page(self, owner: Owner, *, before: UUID | None, most: int) -> Sequence[AuditEntry]:
        lines = sorted(
            (line for line in self.draft.trail if line.owner == owner),
            key=lambda line: line.id,
            reverse=True,
        )
        return [line for line in lines if before is None or line.id < before][:most]

    async def erase(self, owner: Owner, *, most: int) -> int:
        gone = [line for line in self.draft.trail if line.owner == owner][:most]
        self.draft.trail = [line for line in self.draft.trail if line not in gone]
        return len(gone)


@dataclass
class MemoryCanaries:
    """Canaries in a list."""

    draft: MemoryStore

    async def all(self) -> Sequence[Canary]:
        return list(self.draft.canaries)

    async def add_first(self, canaries: Iterable[Canary]) -> None:
        if not self.draft.canaries:
            self.draft.canaries.extend(canaries)


@dataclass
class MemoryKeyUses:
    """The way to a sealed secret, over the same store."""

    store: MemoryStore
    noted: list[KeyUse] = field(default_factory=list)

    async def note(self, use: KeyUse, *, if_status: Collection[Status]) -> FoundKey | None:
        if self.store.is_down:
            raise DependencyUnavailable("database")
        key = self.store.keys.get((use.owner, use.provider))
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
            data_key=self.store.data_keys.get(use.owner),
            envelope=key.secret.envelope if key.secret else None,
            is_noted=is_noted,
        )

    async def note_broken(self, entry: AuditEntry) -> None:
        self.store.trail.append(entry)


@dataclass
class MemoryKeyring:
    """A keyring's place, which may be empty."""

    keyring: Keyring | None = None
    reason: str = "keyring_missing"

    async def read(self) -> Keyring:
        if self.keyring is None:
            raise KeyringRefused(self.reason)
        return self.keyring


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
    source: MemoryKeyring = field(default_factory=lambda: MemoryKeyring(a_keyring()))
    vault: Vault = field(default_factory=Vault)

    def __post_init__(self) -> None:
        self.key_uses = MemoryKeyUses(self.store)
        self.examine_vault = ExamineVault(self.source, self.work, self.vault, may_begin=True)
        self.store_key = StoreKey(self.work, self.vault, self.clock)
        self.list_keys = ListKeys(self.work)
        self.show_key = ShowKey(self.work)
        self.request_validation = RequestValidation(self.work, self.vault, self.clock)
        self.request_due = RequestDueValidations(self.work, self.clock)
        self.revoke_key = RevokeKey(self.work, self.clock)
        self.use_key = UseKey(self.key_uses, self.vault, self.clock)
        self.read_audit = ReadAudit(self.work)
        self.forget_user = ForgetUser(self.work, self.clock)
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
