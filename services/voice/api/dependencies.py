"""What routes are given: the verbs, and on whose behalf."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from services.voice.actions import Actions
from shared.events.base import current_request_id
from shared.http.caller import SignedIn
from shared.identity import OnBehalfOf


async def _actions(request: Request) -> Actions:
    actions: Actions = request.app.state.actions
    return actions


async def _on_behalf_of(caller: SignedIn) -> OnBehalfOf:
    return OnBehalfOf(
        user_id=caller.identity.user_id,
        request_id=current_request_id.get() or "",
        access_token=caller.token,
        sign_in_id=caller.identity.sign_in_id,
        served_by=caller.identity.served_by,
    )


ServiceActions = Annotated[Actions, Depends(_actions)]
ForCaller = Annotated[OnBehalfOf, Depends(_on_behalf_of)]
