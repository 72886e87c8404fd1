"""What routes are given: the verbs, and on whose behalf."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from services.voice.actions import Actions
from shared.http.caller import SignedIn, on_behalf_of
from shared.identity import OnBehalfOf


async def _actions(request: Request) -> Actions:
    actions: Actions = request.app.state.actions
    return actions


async def _on_behalf_of(caller: SignedIn) -> OnBehalfOf:
    return on_behalf_of(caller)


ServiceActions = Annotated[Actions, Depends(_actions)]
ForCaller = Annotated[OnBehalfOf, Depends(_on_behalf_of)]
