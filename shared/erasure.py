"""How a service forgets a user who was deleted, and tells auth when it has.

Written down first, worked on until nothing is left, told, and then watched for a while: an access
token outlives its account by minutes, and facts may come late.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from enum import Enum
from typing import ClassVar, Generic, NewType, Protocol, TypeVar
from uuid import UUID

from shared.clock import Clock
from shared.events import Event
from shared.events.user import UserForgotten
from shared.ids import EventId, UserId
from shared.tiers import DEFAULT_TIER
from shared.values import dataclass

ErasureId = NewType("ErasureId", UUID)

BATCH = 1_000
"""How many rows one transaction deletes at most."""

# Four times the life of an access token.
_WATCHED = timedelta(hours=1)
_AT_ONCE = 500
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Forgetting:
    """A user whom this service is to forget, or has forgotten lately."""

    user_id: UserId
    erasure_id: ErasureId
    asked_at: datetime
    done_at: datetime | None = None


class Left(Enum):
    """What is left of a user after one step of erasing."""

    NOTHING = "nothing"
    MORE = "more"  # the next step can follow at once
    UNSETTLED = "unsettled"  # paid calls that have yet to end


class ForgottenUsers(Protocol):
    """The users who are to be forgotten."""

    async def add(self, forgettings: Sequence[Forgetting]) -> None:
        """Who is there already, and finished, is worked on and told once more."""
        ...

    async def unfinished(self, *, most: int) -> Sequence[Forgetting]:
        """Who waits longest first."""
        ...

    async def finished(self, *, after: UserId | None, most: int) -> Sequence[Forgetting]:
        """By user, from the one after `after` on."""
        ...

    async def hold(self, user_id: UserId) -> Forgetting | None:
        """Locked; None when another worker has it, or it is gone."""
        ...

    async def finish(self, user_id: UserId, at: datetime) -> None:
        """Nothing is left of them since then; they are watched for a while."""
        ...

    async def drop(self, user_id: UserId) -> None:
        """They are watched no more."""
        ...

    async def among(self, user_ids: Sequence[UserId]) -> set[UserId]:
        """Those of these users, so that a late fact brings nothing back."""
        ...


class ForgettingWork(Protocol):
    """What a unit of work must have for this."""

    @property
    def forgotten(self) -> ForgottenUsers: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None:
        """Tell the other services, if and when this transaction commits."""
        ...


W = TypeVar("W", bound=ForgettingWork)


@dataclass(frozen=True)
class Forget(ABC, Generic[W]):
    """Forget users. Services say in `erase` what there is to forget.

    Safe to repeat and to run in several workers: the row of a user is locked while they are erased,
    and what was erased once is not there to be erased again.
    """

    service: ClassVar[str]

    unit_of_work: Callable[[], AbstractAsyncContextManager[W]]
    clock: Clock

    @abstractmethod
    async def erase(self, work: W, user_id: UserId) -> Left:
        """Delete up to `BATCH` rows of the user."""

    async def begin(self, deleted: Sequence[tuple[UserId, ErasureId]]) -> None:
        """Write down whom to forget, then do at once what can be done."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            await work.forgotten.add([Forgetting(user, erasure, now) for user, erasure in deleted])
        for user_id, _ in deleted:
            await self._erase_all(user_id)

    async def go_on(self) -> None:
        """Go on with those of whom something was left."""
        async with self.unit_of_work() as work:
            unfinished = await work.forgotten.unfinished(most=_AT_ONCE)
        for forgetting in unfinished:
            await self._erase_all(forgetting.user_id)

    async def watch(self) -> None:
        """Erase once more whoever was forgotten lately, and let go of those watched for long."""
        after = None
        while True:
            async with self.unit_of_work() as work:
                finished = await work.forgotten.finished(after=after, most=_AT_ONCE)
            for forgetting in finished:
                await self._erase_all(forgetting.user_id)
            if len(finished) < _AT_ONCE:
                return
            after = finished[-1].user_id

    async def _erase_all(self, user_id: UserId) -> None:
        # Not for ever: who has a million rows must not keep the others waiting.
        for _step in range(_STEPS):
            if await self._erase_some(user_id) is not Left.MORE:
                return

    async def _erase_some(self, user_id: UserId) -> Left:
        async with self.unit_of_work() as work:
            forgetting = await work.forgotten.hold(user_id)
            if forgetting is None:
                return Left.NOTHING
            left = await self.erase(work, user_id)
            if left is Left.NOTHING:
                await self._conclude(work, forgetting)
            return left

    async def _conclude(self, work: W, forgetting: Forgetting) -> None:
        now = self.clock.now()
        if forgetting.done_at is None:
            await work.forgotten.finish(forgetting.user_id, now)
            told = UserForgotten(
                user_id=forgetting.user_id, erasure_id=forgetting.erasure_id, service=self.service
            )
            work.publish(told, subject=forgetting.user_id, tier=DEFAULT_TIER.name)
        elif forgetting.done_at < now - _WATCHED:
            await work.forgotten.drop(forgetting.user_id)
