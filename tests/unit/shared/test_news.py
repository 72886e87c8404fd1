"""News go on after whatever ends the connection on which they are heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from shared.ids import UserId
from shared.limits.current_tiers import CurrentTiers
from shared.news import channel, ended_sessions
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
        self.connection = None

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
    monkeypatch.setattr(channel, "_WAIT_SECONDS", 0.0)
    message, hear = HEARERS[news]
    heard = hear(Breaking(message))
    async with asyncio.timeout(2):
        assert await anext(heard) is not None
    await heard.aclose()  # type: ignore[attr-defined]


async def test_a_look_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(ended_sessions, "_LOOK_AGAIN_SECONDS", -1.0)
    looks = 0

    class Away:
        async def mget(self, _keys: object) -> None:
            nonlocal looks
            looks += 1
            raise ConnectionError

    listener: Any = Breaking(str(ADA).encode())
    cache: Any = Away()
    heard = EndedSessions(cache, listener).heard(lambda: [ADA])
    async with asyncio.timeout(2):
        for _ in range(3):
            assert await anext(heard) == ADA
    assert looks == 3  # one of them while nothing could be heard
    await heard.aclose()  # type: ignore[attr-defined]


async def test_silence_is_told_and_the_subscription_is_closed_with_its_hearer() -> None:
    is_open = False

    class Silent(Breaking):
        @asynccontextmanager
        async def pubsub(self) -> AsyncIterator[Breaking]:
            nonlocal is_open
            is_open = True
            try:
                yield self
            finally:
                is_open = False

        async def subscribe(self, _channel: str) -> None:
            pass

        async def get_message(self, **_options: object) -> None:  # type: ignore[override]
            return None

    listener: Any = Silent(b"")
    heard = channel.heard_on(listener, "news", news="news")
    assert await anext(heard) is None
    assert is_open
    await heard.aclose()
    assert not is_open
