"""What was delivered, and what is to be delivered once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.billing.actions.keep_webhooks import Asker, WebhookAccess
from services.billing.domain.errors import (
    WebhookDeliveryNotFound,
    WebhookDisabled,
    WebhookNotFound,
    WebhookTestWaits,
)
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.webhook import (
    TEST,
    Delivery,
    DeliveryId,
    DeliveryState,
    EndpointId,
    message_body,
    new_delivery_id,
)
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RedeliverWebhooks:
    """For the owners of webhooks: the deliveries, a test, and another try of what is dead."""

    access: WebhookAccess
    unit_of_work: NewUnitOfWork
    clock: Clock

    async def list(
        self,
        endpoint_id: EndpointId,
        asker: Asker,
        *,
        state: DeliveryState | None,
        after: DeliveryId | None,
        most: int,
    ) -> Sequence[Delivery]:
        """The newest first. Raises what `access.find` raises."""
        await self.access.find(endpoint_id, asker)
        async with self.unit_of_work() as work:
            return await work.webhook_outbox.of(endpoint_id, state=state, after=after, most=most)

    async def dead(
        self, asker: Asker, organisation_id: UUID | None, *, after: DeliveryId | None, most: int
    ) -> Sequence[Delivery]:
        """Of all webhooks of an owner, the newest first. Raises what `access.owner` raises."""
        owner = await self.access.owner(asker, organisation_id)
        async with self.unit_of_work() as work:
            return await work.webhook_outbox.dead(owner, after=after, most=most)

    async def test(self, endpoint_id: EndpointId, asker: Asker) -> Delivery:
        """A message that means nothing. Raises WebhookDisabled, WebhookTestWaits, or what
        `access.find` raises."""
        async with self.access.hold(endpoint_id, asker) as (work, endpoint):
            if endpoint.disabled_at is not None:
                raise WebhookDisabled(endpoint_id)
            newest = await work.webhook_outbox.of(
                endpoint_id, state="waiting", after=None, most=100
            )
            if any(one.type == TEST for one in newest):
                raise WebhookTestWaits
            now, id_ = self.clock.now(), new_delivery_id()
            delivery = Delivery(
                id=id_,
                endpoint_id=endpoint_id,
                type=TEST,
                effect_key=f"test/{id_}",
                created_at=now,
                next_attempt_at=now,
                body=message_body(TEST, now, {"webhook_id": str(endpoint_id)}),
            )
            await work.webhook_outbox.add(delivery)
        return delivery

    async def again(self, delivery_id: DeliveryId, asker: Asker) -> Delivery:
        """With the same id and words. Raises WebhookDeliveryNotFound, WebhookDisabled,
        OrganisationBillingRequired or DependencyUnavailable."""
        async with self.unit_of_work() as work:
            found = await work.webhook_outbox.get(delivery_id)
        if found is None:
            raise WebhookDeliveryNotFound(delivery_id)
        try:
            endpoint = await self.access.find(found.endpoint_id, asker)
        except WebhookNotFound as error:
            raise WebhookDeliveryNotFound(delivery_id) from error
        if endpoint.disabled_at is not None:
            raise WebhookDisabled(endpoint.id)
        now = self.clock.now()
        async with self.unit_of_work() as work:
            await work.webhook_outbox.redeliver(delivery_id, now)
        return replace(found, state="waiting", attempts=0, next_attempt_at=now, settled_at=None)

    async def since(
        self, endpoint_id: EndpointId, asker: Asker, since: datetime, *, all_states: bool
    ) -> int:
        """What was made since then and is dead, or all of it; answers how many. Raises
        WebhookDisabled, or what `access.find` raises."""
        async with self.access.hold(endpoint_id, asker) as (work, endpoint):
            if endpoint.disabled_at is not None:
                raise WebhookDisabled(endpoint_id)
            return await work.webhook_outbox.redeliver_since(
                endpoint_id, since, all_states=all_states, now=self.clock.now()
            )
