"""In-memory ports for forgetting users."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from shared.erasure import Forgetting
from shared.events import Event
from shared.events.user import UserForgotten
from shared.ids import EventId, UserId

W = TypeVar("W")


@dataclass
class MemoryForgottenUsers:
    """The users who are to be forgotten, in a dictionary. `busy`: another worker has them."""

    rows: dict[UserId, Forgetting] = field(default_factory=dict)
    busy: set[UserId] = field(default_factory=set)

    async def add(self, forgettings: Sequence[Forgetting]) -> None:
        for forgetting in forgettings:
            known = self.rows.setdefault(forgetting.user_id, forgetting)
            self.rows[forgetting.user_id] = replace(known, done_at=None)

    async def unfinished(self, *, most: int) -> Sequence[Forgetting]:
        return [row for row in self.rows.values() if row.done_at is None][:most]

    async def finished(self, *, after: UserId | None, most: int) -> Sequence[Forgetting]:
        done = sorted(row.user_id for row in self.rows.values() if row.done_at is not None)
        return [self.rows[id_] for id_ in done if after is None or id_ > after][:most]

    async def hold(self, user_id: UserId) -> Forgetting | None:
        return None if user_id in self.busy else self.rows.get(user_id)

    async def finish(self, user_id: UserId, at: datetime) -> None:
        self.rows[user_id] = replace(self.rows[user_id], done_at=at)

    async def drop(self, user_id: UserId) -> None:
        del self.rows[user_id]

    async def among(self, user_ids: Sequence[UserId]) -> set[UserId]:
        return set(user_ids) & set(self.rows)


@dataclass
class MemoryForgettingWork:
    """A unit of work that holds nothing else; `traces` is whatever a test puts there."""

    forgotten: MemoryForgottenUsers = field(default_factory=MemoryForgottenUsers)
    published: list[Event] = field(default_factory=list)
    traces: Any = None
    kept_speeches: Any = None  # voice's
    own_settings: Any = None
    clones: Any = None

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None:
        self.published.append(event)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryForgettingWork]:
        yield self

    @property
    def told(self) -> list[UUID]:
        """The users of whom it was told that they are forgotten."""
        return [e.user_id for e in self.published if isinstance(e, UserForgotten)]
