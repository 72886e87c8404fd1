"""`organisation.*`: organisations that exist no more."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.actions import Actions
from services.billing.actions.end_organisation_subscriptions import Dissolved
from services.billing.tasks import listen
from shared.events import Fact
from shared.events.organisation import OrganisationDeleted
from shared.ids import UserId


@listen.to(OrganisationDeleted, queue="organisations")
async def end_subscriptions(facts: Sequence[Fact[OrganisationDeleted]], actions: Actions) -> None:
    """Sell them nothing any more."""
    await actions.end_organisation_subscriptions(
        [
            Dissolved(
                UserId(fact.event.organisation_id),
                UserId(fact.event.user_id),
                tuple(map(UserId, fact.event.decided)),
            )
            for fact in facts
        ]
    )
