"""What webhooks need, in billing's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol
from uuid import UUID

from services.billing.domain.webhook import (
    Delivery,
    DeliveryId,
    DeliveryState,
    Endpoint,
    EndpointId,
    EndpointOwner,
    LedgerRun,
    Outcome,
)
from shared.ids import UserId
from shared.values import dataclass


class Webhooks(Protocol):
    """Endpoints, and who is told of what."""

    async def tell(
        self, holder: UserId, type_: str, data: Mapping[str, Any], *, effect_key: str
    ) -> None:
        """Write a message for the holder's endpoints and the operator's, once per effect and
        endpoint, if and when this transaction commits."""
        ...

    async def add(self, endpoint: Endpoint, *, usage_from_beginning: bool) -> None:
        """Otherwise it is told of the usage that gets its link in the ledger from now on."""
        ...

    async def begin_usage(self, endpoint_id: EndpointId) -> None:
        """It is told of usage from now on, unless it was before: then of what came since, too."""
        ...

    async def take_turn(self, owner: EndpointOwner) -> None:
        """Nobody else adds an endpoint for this owner until the work ends."""
        ...

    async def get(self, endpoint_id: EndpointId) -> Endpoint | None: ...

    async def hold(self, endpoint_id: EndpointId) -> Endpoint | None:
        """Nobody else changes it until the work ends."""
        ...

    async def of(self, owner: EndpointOwner) -> Sequence[Endpoint]: ...
    async def save(self, endpoint: Endpoint) -> None: ...
    async def delete(self, endpoint_id: EndpointId) -> None: ...

    async def forget(self, holder: UserId) -> None:
        """Their endpoints with all that was for them, their alerts, and what the operator was not
        told yet of their limits."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is ours for a while, and where it goes."""

    delivery: Delivery
    endpoint: Endpoint
    lease_id: UUID


@dataclass(frozen=True, slots=True)
class WebhookBacklog:
    """What endpoints have not taken: `due` now, given up lately, and since when the `oldest` waits,
    which may be tried again only in hours."""

    due: int = 0
    oldest: datetime | None = None
    given_up: int = 0


class WebhookOutbox(Protocol):
    """What is to be delivered, and what became of it."""

    async def backlog(self, now: datetime, *, since: datetime) -> WebhookBacklog:
        """What waits, how much of it is due now, and what was given up since then."""
        ...

    async def cut_usage(self, now: datetime, *, most: int) -> int:
        """Make the next delivery out of the ledger for each endpoint of the operator's that has
        taken the one before; answers how many were made."""
        ...

    async def claim(
        self, now: datetime, until: datetime, *, most: int, most_doubtful: int
    ) -> Sequence[Claim]:
        """What is due, the longest due first, a few of each endpoint, fewer of those that failed
        last time. Nobody else gets them before `until`."""
        ...

    async def settle(self, delivery: Delivery, lease_id: UUID) -> bool:
        """What became of an attempt. False when somebody else has the delivery by now."""
        ...

    async def add(self, delivery: Delivery) -> bool:
        """False when its effect was told this endpoint already."""
        ...

    async def get(self, delivery_id: DeliveryId) -> Delivery | None: ...

    async def of(
        self,
        endpoint_id: EndpointId,
        *,
        state: DeliveryState | None,
        after: DeliveryId | None,
        most: int,
    ) -> Sequence[Delivery]:
        """The newest first."""
        ...

    async def dead(
        self, owner: EndpointOwner, *, after: DeliveryId | None, most: int
    ) -> Sequence[Delivery]:
        """The newest first."""
        ...

    async def redeliver(self, delivery_id: DeliveryId, now: datetime) -> None: ...

    async def redeliver_since(
        self, endpoint_id: EndpointId, since: datetime, *, all_states: bool, now: datetime
    ) -> int: ...

    async def give_up(self, endpoint_id: EndpointId, now: datetime) -> None:
        """What waits for an endpoint that is disabled is dead; usage goes on waiting."""
        ...

    async def go_on(self, endpoint_id: EndpointId, now: datetime) -> None:
        """What waits for its next attempt is due, however long it was put off."""
        ...

    async def usage(self, run: LedgerRun) -> Mapping[str, Any]:
        """What stands in a run of the ledger, as it is told."""
        ...

    async def usage_taken(self, endpoint_id: EndpointId, run: LedgerRun) -> None:
        """The endpoint has the ledger up to the end of the run."""
        ...

    async def forget(self, *, delivered_before: datetime, dead_before: datetime) -> None: ...


def _nobody() -> None:
    """There is nobody to be told."""


class WebhookSender(Protocol):
    """Who reaches out to a receiver. Never raises for what a receiver or its network does."""

    async def send(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        reached: Callable[[], None] = _nobody,
    ) -> Outcome:
        """`reached` hears that the receiver was found and is being asked: from then on it is their
        time alone that passes."""
        ...


class WebhookAddresses(Protocol):
    """Which addresses may be told."""

    def check(self, url: str) -> None:
        """Raises WebhookUrlNotAllowed."""
        ...


class SecretSeal(Protocol):
    """Secrets are kept sealed, each for its endpoint alone."""

    def seal(self, endpoint_id: EndpointId, secret: str) -> bytes:
        """Raises WebhookSecretsUnavailable without a key."""
        ...

    def open(self, endpoint_id: EndpointId, sealed: bytes) -> str:
        """Raises WebhookSecretsUnavailable."""
        ...

    def is_usable(self) -> bool:
        """Whether there is a key at all."""
        ...


@dataclass(frozen=True, slots=True)
class Spent:
    """A user's spending in a month has come to a threshold of theirs."""

    user_id: UserId
    tier: str
    month: date
    threshold: int
    spent: int


class SpendAlerts(Protocol):
    """At which spending users want to be told."""

    async def thresholds(self, user_id: UserId) -> Sequence[int]: ...

    async def set_thresholds(
        self, user_id: UserId, thresholds: Sequence[int], at: datetime
    ) -> None: ...

    async def reached(
        self, month: tuple[datetime, datetime], *, since: datetime, until: datetime
    ) -> Sequence[Spent]:
        """Thresholds that users of this time have come to, each told once in a month: of several
        at once the highest."""
        ...

    async def forget(self, *, before: date) -> None: ...
