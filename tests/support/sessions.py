"""What auth's worker tells everybody about sessions."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from shared.news.ended_sessions import EndedSessions
from shared.valkey import open_cache


async def know_ended_sessions(cache_url: str, ended: Iterable[UUID] = ()) -> None:
    """Let this Valkey know of all sessions that have ended lately."""
    async with open_cache(cache_url) as cache:
        await EndedSessions(cache).repeat(ended)
