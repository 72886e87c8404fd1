"""`organisation.*`: organisations that exist no more."""

from __future__ import annotations

from collections.abc import Sequence

from services.keyvault.actions import Actions
from services.keyvault.tasks import listen
from shared.events import Fact
from shared.events.organisation import OrganisationDeleted


@listen.to(OrganisationDeleted, queue="organisations")
async def end(facts: Sequence[Fact[OrganisationDeleted]], actions: Actions) -> None:
    """Destroy their keys."""
    for organisation_id in {fact.event.organisation_id for fact in facts}:
        await actions.end_organisation(organisation_id)
