"""What chat's routes share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from services.chat.actions import Actions


async def _actions(request: Request) -> Actions:
    actions: Actions = request.app.state.actions
    return actions


ServiceActions = Annotated[Actions, Depends(_actions)]
PageSize = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
