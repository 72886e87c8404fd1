"""What routes are given: the verbs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from services.auth.actions import Actions


async def _actions(request: Request) -> Actions:
    actions: Actions = request.app.state.actions
    return actions


ServiceActions = Annotated[Actions, Depends(_actions)]
