"""Webhooks: where customers and the billing team are told what happened, and how often we try."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NewType, Self
from uuid import UUID

from services.billing.domain.errors import WebhookSecretStillChanging
from shared.ids import UserId, uuid7
from shared.values import dataclass

EndpointId = NewType("EndpointId", UUID)
DeliveryId = NewType("DeliveryId", UUID)
OwnerKind = Literal["user", "organisation", "operator"]
DeliveryState = Literal["waiting", "delivered", "dead"]
DisabledBecause = Literal["by_owner", "gone", "failing"]
SigningSecret = Literal["older", "newer"]

USAGE, TEST = "usage.recorded", "webhook.test"
HOLDERS_TYPES = (
    "credit_note.issued",
    "invoice.finalized",
    "limit.reached",
    "spend.reached",
    "subscription.changed",
)
"""What holders are told of themselves; the operator is told of everybody's."""
OPERATORS_TYPES = (*HOLDERS_TYPES, USAGE)

MOST_ENDPOINTS = 10
"""Of one owner."""
USAGE_BATCH = 500
SECRET_OVERLAP = timedelta(hours=24)
GIVE_UP_AFTER = timedelta(days=5)
"""An endpoint that fails for so long is disabled."""

_RETRIES = (
    timedelta(seconds=5),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=10),
)
# A receiver may ask for patience, but not for so much that it is never tried again.
_LONGEST_WAIT = timedelta(hours=10)
_LONGEST_PAUSE = timedelta(minutes=2)
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the scheme's own prefix, not a secret
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class EndpointOwner:
    """Whose endpoint it is; the operator's has no id."""

    kind: OwnerKind
    id: UserId | None

    @classmethod
    def operator(cls) -> Self:
        return cls("operator", None)

    @property
    def types(self) -> tuple[str, ...]:
        """What this owner may be told of."""
        return OPERATORS_TYPES if self.kind == "operator" else HOLDERS_TYPES


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where somebody wants to be told. Without `types` it is told of everything its owner may be
    told of, apart from usage."""

    id: EndpointId
    owner: EndpointOwner
    url: str = field(repr=False)  # it may hold a token of the receiver's
    types: tuple[str, ...]
    secret: bytes = field(repr=False)
    created_by: UserId
    created_at: datetime
    old_secret: bytes | None = field(default=None, repr=False)
    old_secret_until: datetime | None = None
    disabled_at: datetime | None = None
    disabled_because: DisabledBecause | None = None
    failures: int = 0
    failing_since: datetime | None = None
    paused_until: datetime | None = None

    @property
    def wants_usage(self) -> bool:
        return USAGE in self.types

    def with_new_secret(
        self, secret: bytes, at: datetime, drop: SigningSecret | None = None
    ) -> Endpoint:
        """The one before goes on signing for a day, so that the receiver can be changed at
        leisure. While there are two already, somebody has to say which of them the receiver does
        without from now on. Raises WebhookSecretStillChanging."""
        kept = self.secret
        if self.old_secret is not None and len(self.secrets_at(at)) > 1:
            if drop is None:
                raise WebhookSecretStillChanging(self.id, self.old_secret_until)
            kept = self.old_secret if drop == "newer" else self.secret
        return replace(self, secret=secret, old_secret=kept, old_secret_until=at + SECRET_OVERLAP)

    def disabled(self, because: DisabledBecause, at: datetime) -> Endpoint:
        if self.disabled_at is not None:
            return self
        return replace(self, disabled_at=at, disabled_because=because)

    def enabled(self) -> Endpoint:
        """As if it had never failed."""
        return replace(
            self,
            disabled_at=None,
            disabled_because=None,
            failures=0,
            failing_since=None,
            paused_until=None,
        )

    def answered(self) -> Endpoint:
        """It took what it was sent."""
        return replace(self, failures=0, failing_since=None, paused_until=None)

    def failed(self, at: datetime, retry_after: timedelta | None) -> Endpoint:
        """It did not. Who fails again and again is left in peace for a while, or for good."""
        since = self.failing_since or at
        pause = _pause_after(self.failures + 1, retry_after)
        failed = replace(
            self, failures=self.failures + 1, failing_since=since, paused_until=at + pause
        )
        return failed.disabled("failing", at) if at - since >= GIVE_UP_AFTER else failed

    def secrets_at(self, now: datetime) -> list[bytes]:
        """Those that sign now, sealed, the newest first."""
        until = self.old_secret_until
        if self.old_secret is not None and until is not None and now < until:
            return [self.secret, self.old_secret]
        return [self.secret]


@dataclass(frozen=True, slots=True)
class LedgerRun:
    """A run of links of one chain of the ledger."""

    chain: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one endpoint; its id is the message's, however often it is sent."""

    id: DeliveryId
    endpoint_id: EndpointId
    type: str
    effect_key: str
    created_at: datetime
    next_attempt_at: datetime
    body: str | None = field(default=None, repr=False)
    run: LedgerRun | None = None
    holder: UserId | None = None
    state: DeliveryState = "waiting"
    attempts: int = 0
    last_attempt_at: datetime | None = None
    last_status: int | None = None
    last_problem: str | None = None
    settled_at: datetime | None = None

    @property
    def message_id(self) -> str:
        return f"msg_{self.id.hex}"

    def delivered(self, status: int, at: datetime) -> Delivery:
        return replace(
            self,
            state="delivered",
            attempts=self.attempts + 1,
            last_attempt_at=at,
            last_status=status,
            last_problem=None,
            settled_at=at,
        )

    def failed(self, outcome: Outcome, at: datetime, *, jitter: float) -> Delivery:
        """To be tried again, or dead after the last time. `jitter` is between 0 and 1.

        Usage is never dead: what comes after it waits for it, so that nothing is left out.
        """
        tried = replace(
            self,
            attempts=self.attempts + 1,
            last_attempt_at=at,
            last_status=outcome.status,
            last_problem=outcome.problem,
        )
        wait = wait_after(tried.attempts, outcome.retry_after, jitter=jitter)
        if wait is None and self.run is None:
            return tried.given_up(at)
        return replace(tried, next_attempt_at=at + (wait or _RETRIES[-1]))

    def given_up(self, at: datetime) -> Delivery:
        return replace(self, state="dead", settled_at=at)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: a status, or what was in its way (a word of a fixed set)."""

    status: int | None = None
    problem: str | None = None
    retry_after: timedelta | None = None

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """The receiver wants nothing any more."""
        return self.status == 410


def wait_after(attempts: int, retry_after: timedelta | None, *, jitter: float) -> timedelta | None:
    """Until the next attempt: up to a fifth longer than planned, so that what failed together does
    not come back together. None after the last one."""
    if attempts > len(_RETRIES):
        return None
    planned: timedelta = _RETRIES[attempts - 1] * (1 + 0.2 * jitter)
    return max(planned, min(retry_after or timedelta(0), _LONGEST_WAIT))


def _pause_after(failures: int, retry_after: timedelta | None) -> timedelta:
    """How long nothing at all is sent there: seconds at first, minutes later."""
    pause = min(timedelta(seconds=2 ** min(failures - 1, 10)), _LONGEST_PAUSE)
    return max(pause, min(retry_after or timedelta(0), _LONGEST_WAIT))


def new_secret() -> str:
    """A secret as its receiver gets it, once."""
    return _SECRET_PREFIX + base64.b64encode(os.urandom(_SECRET_BYTES)).decode()


def signature(message_id: str, timestamp: int, body: bytes, secrets: Sequence[str]) -> str:
    """The header `webhook-signature`: one for each secret, by the Standard Webhooks scheme."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_sign(secret, signed)}" for secret in secrets)


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def message_body(type_: str, at: datetime, data: Mapping[str, Any]) -> str:
    """What is sent, as it is signed."""
    moment = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(
        {"type": type_, "timestamp": moment, "data": data},
        separators=(",", ":"),
        default=_plain,
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def new_endpoint_id() -> EndpointId:
    return EndpointId(uuid7())


def new_delivery_id() -> DeliveryId:
    return DeliveryId(uuid7())
