"""A user's key for one provider: its life, and when it is checked again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType
from uuid import UUID

from services.keyvault.domain.owner import Owner
from services.keyvault.domain.secret import SealedSecret, SecretName
from shared.ids import uuid7
from shared.values import dataclass
from shared.vendors import Check, Detail, KeyStatus

KeyId = NewType("KeyId", UUID)

_DAY = timedelta(days=1)
_FIRST_RETRY = timedelta(seconds=30)
_NO_TIME = timedelta()
_LONGEST_RETRY = timedelta(hours=1)
# How long an answer to a check may take before we ask for another one.
ANSWER_WITHIN = timedelta(minutes=10)


class Status(StrEnum):
    """What we know about a key."""

    PENDING = "pending"  # stored, not checked yet
    VALID = "valid"
    LIMITED = "limited"  # the vendor knows it, but a permission or credit is missing
    INVALID = "invalid"
    UNREACHABLE = "unreachable"  # the vendor could not tell us
    REVOKED = "revoked"  # withdrawn by its owner; the secret is gone


LIVE = frozenset(Status) - {Status.REVOKED}
# A key that nobody has called bad may be tried: the vendor has the last word anyway.
USABLE = frozenset({Status.PENDING, Status.VALID, Status.LIMITED, Status.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """One owner's key for one provider.

    There is one for ever: storing another secret raises `version`, also after a withdrawal, so that
    whoever hears of a key knows which news is newer.
    """

    id: KeyId
    owner: Owner
    provider: str
    version: int
    status: Status
    hint: str
    tier: str  # which queue carries the requests to check it
    created_at: datetime
    updated_at: datetime
    secret: SealedSecret | None = None
    capabilities: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    details: Mapping[str, Detail] = field(default_factory=dict)
    last_validated_at: datetime | None = None
    last_error: str | None = None
    next_check_at: datetime | None = None
    failed_checks: int = 0
    check_requested_at: datetime | None = None  # None when no check is under way

    @property
    def is_live(self) -> bool:
        """Whether its owner has not withdrawn it."""
        return self.status is not Status.REVOKED

    @property
    def name(self) -> SecretName:
        """What its present secret is sealed as."""
        return SecretName(self.id, self.owner, self.provider, self.version)

    @property
    def next_name(self) -> SecretName:
        """What its next secret will be sealed as."""
        return replace(self.name, version=self.version + 1)

    def is_being_checked(self, at: datetime) -> bool:
        """Whether this version waits for its vendor's word; not for ever, should that be lost."""
        asked = self.check_requested_at
        return asked is not None and at < asked + ANSWER_WITHIN

    def holding(self, secret: SealedSecret, *, hint: str, tier: str, at: datetime) -> ProviderKey:
        """The key with another secret, of which nothing is known yet."""
        return replace(
            self,
            version=self.version + 1,
            secret=secret,
            hint=hint,
            capabilities=(),
            models=(),
            details={},
            last_validated_at=None,
            check_requested_at=None,
        ).stored_again(tier=tier, at=at)

    def stored_again(self, *, tier: str, at: datetime) -> ProviderKey:
        """The key after its owner has sent the same secret once more. A check that is under way
        will do, and is asked for once more should its answer not come."""
        again = replace(
            self,
            status=Status.PENDING,
            tier=tier,
            updated_at=at,
            last_error=None,
            failed_checks=0,
        )
        asked = self.check_requested_at
        if asked is None or not self.is_being_checked(at):
            return again.check_requested(tier=tier, at=at)
        # A release before has perhaps heard the answer, and not noted that nobody waits any more.
        return replace(again, next_check_at=asked + ANSWER_WITHIN)

    def check_requested(self, *, tier: str, at: datetime) -> ProviderKey:
        """The key while a check is under way; what is known of it stands until the answer."""
        return replace(self, tier=tier, next_check_at=at + ANSWER_WITHIN, check_requested_at=at)

    def judged(self, check: Check, at: datetime) -> ProviderKey:
        """The key after its vendor was asked."""
        if check.status is KeyStatus.UNREACHABLE:
            return self._not_told(check, at)
        told = replace(
            self,
            status=Status(check.status.value),
            last_error=check.error,
            last_validated_at=at,
            updated_at=at,
            failed_checks=0,
            check_requested_at=None,
            next_check_at=None if check.status is KeyStatus.INVALID else self._tomorrow(at),
        )
        # A limited key is often one that may not list models; what it listed before still holds.
        if check.status is KeyStatus.LIMITED and not check.models and not check.capabilities:
            return told
        return replace(
            told, models=check.models, capabilities=check.capabilities, details=check.details
        )

    def revoked(self, at: datetime) -> ProviderKey:
        """What is left of a withdrawn key: that it existed, and its version."""
        return replace(
            self,
            status=Status.REVOKED,
            secret=None,
            hint="",
            capabilities=(),
            models=(),
            details={},
            last_error=None,
            next_check_at=None,
            check_requested_at=None,
            failed_checks=0,
            updated_at=at,
        )

    def _not_told(self, check: Check, at: datetime) -> ProviderKey:
        # A vendor's bad hour takes nothing back that it has said before, good or bad.
        known = self.status in {Status.VALID, Status.LIMITED, Status.INVALID}
        return replace(
            self,
            status=self.status if known else Status.UNREACHABLE,
            last_error=check.error,
            updated_at=at,
            failed_checks=self.failed_checks + 1,
            check_requested_at=None,
            next_check_at=at + max(retry_after(self.failed_checks), check.retry_after or _NO_TIME),
        )

    def _tomorrow(self, at: datetime) -> datetime:
        """The key's own second of the day, half a day to a day and a half from now."""
        earliest = at + _DAY / 2
        digest = hashlib.sha256(self.id.bytes).digest()
        second = timedelta(seconds=int.from_bytes(digest[:4], "big") % 86_400)
        due = earliest.replace(hour=0, minute=0, second=0, microsecond=0) + second
        return due if due >= earliest else due + _DAY


def new_key(owner: Owner, provider: str, *, tier: str, at: datetime) -> ProviderKey:
    """A key that has never held a secret; `holding` gives it the first."""
    return ProviderKey(
        id=KeyId(uuid7()),
        owner=owner,
        provider=provider,
        version=0,
        status=Status.PENDING,
        hint="",
        tier=tier,
        created_at=at,
        updated_at=at,
    )


def retry_after(failed_before: int) -> timedelta:
    """How long to wait after one more failure: 30 s, doubled each time, an hour at most."""
    factor: int = 1 << min(failed_before, 10)
    return min(_FIRST_RETRY * factor, _LONGEST_RETRY)


def hint_of(secret: str) -> str:
    """By which its owner recognises a key."""
    return f"…{secret[-4:]}"
