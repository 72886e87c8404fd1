"""What chat's routes share."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request

from services.chat.actions import Actions


async def _actions(request: Request) -> Actions:
    actions: Actions = request.app.state.actions
    return actions


ServiceActions = Annotated[Actions, Depends(_actions)]
PageSize = Annotated[int, Query(ge=1, le=200, description="How many at most.")]

PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer, for its documentation."""
    words = {
        401: "The access token is missing or bad.",
        402: "The tier does not include this.",
        404: "No such thing, or another user's.",
        409: "The state does not allow this.",
        422: "The request is not valid.",
        429: "A limit of the tier is reached.",
        502: "The vendor failed or refused.",
        503: "A dependency of ours is in trouble.",
    }
    return {status: {"description": words[status], **PROBLEM} for status in statuses}


__all__ = ["UUID", "PageSize", "ServiceActions", "problems"]
