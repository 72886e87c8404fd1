"""What routes are given: the verbs, and on whose behalf."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response

from services.voice.actions import Actions
from shared.http.caller import SignedIn, on_behalf_of, refresh_hint
from shared.identity import OnBehalfOf
from shared.tiers import Tier


async def _actions(request: Request) -> Actions:
    actions: Actions = request.app.state.actions
    return actions


async def _on_behalf_of(caller: SignedIn) -> OnBehalfOf:
    return on_behalf_of(caller)


ServiceActions = Annotated[Actions, Depends(_actions)]


async def _current_tier(caller: SignedIn, actions: ServiceActions, response: Response) -> Tier:
    """Also tells a client whose token claims another one."""
    tier = await actions.read_tier(caller.identity.user_id, caller.tier)
    response.headers.update(refresh_hint(caller, tier.told_as))
    return tier


CurrentTier = Annotated[Tier, Depends(_current_tier)]
ForCaller = Annotated[OnBehalfOf, Depends(_on_behalf_of)]
