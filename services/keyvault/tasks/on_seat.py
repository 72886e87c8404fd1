"""`seat.*`: who may use an organisation's keys, and who no more."""

from __future__ import annotations

from collections.abc import Sequence

from services.keyvault.actions import Actions
from services.keyvault.domain.organisation import SeatNews
from services.keyvault.tasks import listen
from shared.events import Fact
from shared.events.seat import SeatAssigned, SeatReleased
from shared.ids import UserId


@listen.to(SeatAssigned, queue="organisations")
async def assigned(facts: Sequence[Fact[SeatAssigned]], actions: Actions) -> None:
    """They may, from now on."""
    await actions.note_seats([_news(fact, is_taken=True) for fact in facts])


@listen.to(SeatReleased, queue="organisations")
async def released(facts: Sequence[Fact[SeatReleased]], actions: Actions) -> None:
    """They may no more, whatever their access token says."""
    await actions.note_seats([_news(fact, is_taken=False) for fact in facts])


def _news(fact: Fact[SeatAssigned] | Fact[SeatReleased], *, is_taken: bool) -> SeatNews:
    event = fact.event
    return SeatNews(UserId(event.user_id), event.organisation_id, is_taken, fact.time)
