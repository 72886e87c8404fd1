"""Users' subscriptions."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.subscription import Subscription
from shared.db.database import Connection, Row
from shared.ids import UserId

_GET = "select * from subscription where user_id = $1"

# The row is made first, so that there is one to lock for a user who never chose. Revisions count on
# from those of a subscription that was dropped.
_MAKE = """
insert into subscription (user_id, tier, seats, revision, is_organisation)
select $1, $2, $3, greatest($4, max(revision)), $5 from subscription_change where user_id = $1
on conflict (user_id) do nothing
"""
_HOLD = "select * from subscription where user_id = $1 for update"

_SAVE = """
with changed as (
    update subscription set tier = $2, seats = $3, revision = $4, changed_at = $5
    where user_id = $1
)
insert into subscription_change (user_id, tier, seats, revision, changed_at, changed_by)
values ($1, $2, $3, $4, $5, $6)
"""

_DELETE = "delete from subscription where user_id = $1"
_CHANGES = "select * from subscription_change where user_id = $1 order by revision"


class SqlSubscriptions:
    """Subscriptions on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, user_id: UserId) -> Subscription | None:
        row = await self._connection.fetchrow(_GET, user_id)
        return from_row(row) if row else None

    async def hold(self, user_id: UserId, *, is_organisation: bool = False) -> Subscription:
        new = Subscription.initial(user_id, is_organisation=is_organisation)
        await self._connection.execute(
            _MAKE, user_id, new.tier_name, new.seats, new.revision, is_organisation
        )
        row = await self._connection.fetchrow(_HOLD, user_id)
        assert row is not None
        return from_row(row)

    async def save(self, subscription: Subscription, *, by: UserId) -> None:
        await self._connection.execute(
            _SAVE,
            subscription.user_id,
            subscription.tier_name,
            subscription.seats,
            subscription.revision,
            subscription.changed_at,
            by,
        )

    async def delete(self, user_id: UserId) -> None:
        await self._connection.execute(_DELETE, user_id)

    async def changes_of(self, user_id: UserId) -> Sequence[Subscription]:
        return [from_row(row) for row in await self._connection.fetch(_CHANGES, user_id)]


def from_row(row: Row) -> Subscription:
    """A subscription out of its row."""
    return Subscription(
        user_id=UserId(row["user_id"]),
        tier_name=row["tier"],
        seats=row["seats"],
        revision=row["revision"],
        changed_at=row["changed_at"],
        # A change in the books does not say it again.
        is_organisation=row.get("is_organisation", False),
    )
