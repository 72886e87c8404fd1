"""News go on after whatever ends the connection on which they are heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from shared.ids import UserId
from shared.limits import current_tiers
from shared.limits.current_tiers import CurrentTiers
from shared.news import ended_sessions, revocations
from shared.news.ended_sessions import EndedSessions
from shared.news.revocations import ValkeyRevocations

ADA = UserId(UUID(int=7))
REVOKED = b'{"user_id":"%b","provider":"openai","at":"2026-11-24T12:00:00+00:00"}'
TIER = b'{"user_id":"%b","tier":"pro"}'


class Breaking:
    """A listener whose first connection is closed under it, as uvloop tells that."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._subscriptions = 0

    @asynccontextmanager
    async def pubsub(self) -> AsyncIterator[Breaking]:
        yield self

    async def subscribe(self, _channel: str) -> None:
        self._subscriptions += 1
        if self._subscriptions == 1:
            raise RuntimeError("unable to perform operation on the handler; it is closed")

    async def get_message(self, **_options: object) -> dict[str, Any]:
        return {"type": "message", "data": self._message}


HEARERS: dict[str, tuple[bytes, Callable[[Any], AsyncIterator[Any]]]] = {
    "revocations": (
        REVOKED % str(ADA).encode(),
        lambda listener: ValkeyRevocations("chat", listener, listener).heard(),
    ),
    "ended sessions": (
        str(ADA).encode(),
        lambda listener: EndedSessions(listener, listener).heard(list),
    ),
    "tiers": (
        TIER % str(ADA).encode(),
        lambda listener: CurrentTiers(listener, listener).heard(),
    ),
}


@pytest.mark.parametrize("news", HEARERS)
async def test_a_connection_that_is_closed_under_them_is_opened_anew(
    news: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (revocations, ended_sessions, current_tiers):
        monkeypatch.setattr(module, "_WAIT_SECONDS", 0.0)
    message, hear = HEARERS[news]
    heard = hear(Breaking(message))
    async with asyncio.timeout(2):
        assert await anext(heard) is not None
    await heard.aclose()  # type: ignore[attr-defined]
