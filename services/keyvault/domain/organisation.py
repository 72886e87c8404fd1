"""Organisations, as far as their keys go: who may use them. auth knows everything else."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from shared.ids import UserId
from shared.values import dataclass

# A token that is made while a seat is being taken may still claim it, and is younger than the news;
# its time is in whole seconds; and auth's processes may run on clocks that differ.
_TOGETHER = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class ClaimedSeat:
    """What an access token says about its user's seat, as it was when the token was made.

    Later news counts more, whichever way it goes.
    """

    organisation_id: UUID
    is_taken: bool
    as_of: datetime

    @property
    def news_counts_from(self) -> datetime:
        """News from here on is taken for the later word."""
        return self.as_of - _TOGETHER


@dataclass(frozen=True, slots=True)
class SeatNews:
    """A member has got a seat, or lost it."""

    user_id: UserId
    organisation_id: UUID
    is_taken: bool
    at: datetime
