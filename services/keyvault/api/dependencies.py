"""What routes are given: the verbs, and what all answers about keys say."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response

from services.keyvault.actions import Actions


async def _actions(request: Request) -> Actions:
    actions: Actions = request.app.state.actions
    return actions


async def _keep_nowhere(response: Response) -> None:
    response.headers["cache-control"] = "no-store"


ServiceActions = Annotated[Actions, Depends(_actions)]
KEPT_NOWHERE = Depends(_keep_nowhere)
"""On all routes: nothing about keys belongs in a cache."""
