"""How a route gets at the verbs."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from services.auth.actions import Actions


async def _actions(request: Request) -> Actions:
    return cast(Actions, request.app.state.actions)


ServiceActions = Annotated[Actions, Depends(_actions)]
