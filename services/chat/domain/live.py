"""A turn as it is followed: wherever it runs, the same numbered events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Protocol, TypeAlias

from services.chat.domain.bell import Bell
from services.chat.domain.conversation import SessionId
from services.chat.domain.turn import TurnId
from services.chat.domain.turn_events import TurnEvent
from shared.values import dataclass

LiveEvent: TypeAlias = tuple[str, bytes]
"""An event as clients see it: its name, and its data as JSON. Its number is its place, from 1."""

Encode: TypeAlias = Callable[[TurnEvent], LiveEvent]

LAST_EVENTS = frozenset({"done", "error", "interrupted"})


class LiveTurn(Protocol):
    """What a follower needs of a turn. It holds a position and asks for what comes after it, so
    that memory is bounded by the answer's length, however slow anybody is."""

    @property
    def turn_id(self) -> TurnId: ...
    @property
    def session_id(self) -> SessionId | None: ...
    @property
    def bell(self) -> Bell: ...
    @property
    def is_over(self) -> bool:
        """Whether nothing more will be said than `said` tells now."""
        ...

    def said(self, after: int) -> Sequence[LiveEvent]:
        """What was said after the event of that number."""
        ...

    async def more(self, after: int) -> None:
        """Return once something was said after that, or the turn is over."""
        ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class HeardTurn:
    """A turn that runs on another replica, or did: told event by event by whoever hears of it.

    It begins after the event number `base`. When events are missing in between it is torn: then it
    waits for its end, whose last event holds the whole message.
    """

    turn_id: TurnId
    session_id: SessionId | None
    base: int = 0
    is_torn: bool = False
    is_over: bool = False
    bell: Bell = field(default_factory=Bell)
    heard_at: float = field(default_factory=time.monotonic)
    _events: list[LiveEvent] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The number of the last event heard."""
        return self.base + len(self._events)

    @property
    def last_name(self) -> str | None:
        return self._events[-1][0] if self._events else None

    def said(self, after: int) -> Sequence[LiveEvent]:
        return self._events[max(0, after - self.base) :]

    async def more(self, after: int) -> None:
        while after >= self.last and not self.is_over:
            await self.bell.rung()

    def hear(self, first: int, events: Sequence[LiveEvent]) -> None:
        """Take events that begin with this number; what is known already is skipped."""
        if self.is_over or self.is_torn:
            return
        self.heard_at = time.monotonic()
        if first > self.last + 1:
            self.is_torn = True
            return
        new = events[self.last + 1 - first :]
        if new:
            self._events.extend(new)
            self.is_over = new[-1][0] in LAST_EVENTS
            self.bell.ring()

    def close(self, events: Sequence[LiveEvent]) -> None:
        """Its end, as the database tells it."""
        if not self.is_over:
            self._events.extend(events)
            self.is_over = True
            self.bell.ring()


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants a turn to end that runs on another replica."""

    turn_id: TurnId


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """A turn of the session has begun somewhere."""

    session_id: SessionId
    turn_id: TurnId


@dataclass(frozen=True, slots=True)
class Emitted:
    """A device told the others in the room something: JSON, stored nowhere."""

    session_id: SessionId
    message: bytes


@dataclass(frozen=True, slots=True)
class Missed:
    """News may have been missed: Valkey was away."""


LiveNews: TypeAlias = StopAsked | TurnBegan | Emitted | Missed
