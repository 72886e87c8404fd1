"""What routes are given: the verbs, the tier of now, and how much of a list."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request, Response

from services.chat.actions import Actions
from shared.http.caller import SignedIn, refresh_hint
from shared.tiers import Tier


async def _actions(request: Request) -> Actions:
    actions: Actions = request.app.state.actions
    return actions


ServiceActions = Annotated[Actions, Depends(_actions)]


async def _current_tier(caller: SignedIn, actions: ServiceActions, response: Response) -> Tier:
    """Also tells a client whose token claims another one."""
    tier = await actions.read_tier(caller.identity.user_id, caller.tier)
    response.headers.update(refresh_hint(caller, tier.told_as))
    return tier


CurrentTier = Annotated[Tier, Depends(_current_tier)]
PageSize = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
