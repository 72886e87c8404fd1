"""Users' subscriptions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.billing.domain.subscription import State, Subscription
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
_HOLD_KEPT = """
select * from subscription where user_id = $1 and dissolved_at is null for update
"""
_DISSOLVE = """
update subscription set dissolved_at = $2 where user_id = $1 and dissolved_at is null
"""

_SAVE = """
insert into subscription_change (user_id, tier, seats, revision, changed_at, changed_by, state)
values ($1, $2, $3, $4, $5, $6, $7)
"""

_KEEP_TERMS = """
update subscription s set
    tier = n.tier, seats = n.seats, revision = n.revision, changed_at = n.changed_at,
    state = n.state, anchor = n.anchor, period_begins = n.period_begins,
    period_ends = n.period_ends, unit_price_microusd = n.unit_price_microusd,
    price_version = n.price_version, next_tier = n.next_tier, next_seats = n.next_seats,
    cancels = n.cancels, trial_used_at = n.trial_used_at, paid_ahead = n.paid_ahead,
    owed_microusd = n.owed_microusd, unpaid_since = n.unpaid_since,
    dunning_step = n.dunning_step, next_step_at = n.next_step_at,
    terms_revision = n.terms_revision, plan_revision = n.plan_revision,
    planned_at = n.planned_at
from unnest(
    $1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::timestamptz[], $6::text[],
    $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::bigint[], $11::text[],
    $12::text[], $13::int[], $14::boolean[], $15::timestamptz[], $16::int[], $17::bigint[],
    $18::timestamptz[], $19::int[], $20::timestamptz[], $21::bigint[], $22::bigint[],
    $23::timestamptz[]
) as n (user_id, tier, seats, revision, changed_at, state, anchor, period_begins, period_ends,
        unit_price_microusd, price_version, next_tier, next_seats, cancels, trial_used_at,
        paid_ahead, owed_microusd, unpaid_since, dunning_step, next_step_at, terms_revision,
        plan_revision, planned_at)
where s.user_id = n.user_id
"""

# Another worker's rows are not waited for.
_DUE = """
select * from subscription where next_step_at <= $1
order by next_step_at, user_id limit $2 for update skip locked
"""
_PAST_DUE = """
select * from subscription where state = 'past_due' and user_id > $1 order by user_id limit $2
"""
_FIRST = UUID(int=0)

_ADD_READERS = """
insert into organisation_reader (organisation_id, user_id) select $1, unnest($2::uuid[])
on conflict do nothing
"""
_IS_READER = """
select 1 from organisation_reader where organisation_id = $1 and user_id = $2
"""
_FORGET_READER = "delete from organisation_reader where user_id = $1"
_DELETE = "delete from subscription where user_id = $1"
# Two organisations' trials of one person are begun one after the other.
_TAKE_TURN = "select pg_advisory_xact_lock(4247, hashtext($1))"
# Whoever cancels or resumes one that is there has not begun it.
_BEGAN_A_TRIAL = """
select exists (
    select 1 from subscription_change c where c.changed_by = $1 and c.state = 'trialing'
      and not exists (
        select 1 from subscription_change before
        where before.user_id = c.user_id and before.state = 'trialing'
          and before.revision < c.revision)
) as began
"""
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

    async def hold_kept(self, user_id: UserId) -> Subscription | None:
        row = await self._connection.fetchrow(_HOLD_KEPT, user_id)
        return from_row(row) if row else None

    async def save(self, subscription: Subscription, *, by: UserId) -> None:
        await self.keep_terms([subscription])
        await self._connection.execute(
            _SAVE,
            subscription.user_id,
            subscription.tier_name,
            subscription.seats,
            subscription.revision,
            subscription.changed_at,
            by,
            subscription.shown_state.value,
        )

    async def keep_terms(self, subscriptions: Sequence[Subscription]) -> None:
        if subscriptions:
            columns = zip(*map(_terms, subscriptions), strict=True)
            await self._connection.execute(_KEEP_TERMS, *(list(column) for column in columns))

    async def due(self, now: datetime, *, most: int) -> Sequence[Subscription]:
        return [from_row(row) for row in await self._connection.fetch(_DUE, now, most)]

    async def past_due(self, *, after: UserId | None, most: int) -> Sequence[Subscription]:
        rows = await self._connection.fetch(_PAST_DUE, after or _FIRST, most)
        return [from_row(row) for row in rows]

    async def delete(self, user_id: UserId) -> None:
        await self._connection.execute(_DELETE, user_id)

    async def dissolve(self, organisation_id: UserId, at: datetime) -> None:
        await self._connection.execute(_DISSOLVE, organisation_id, at)

    async def add_readers(self, organisation_id: UserId, readers: Sequence[UserId]) -> None:
        await self._connection.execute(_ADD_READERS, organisation_id, list(readers))

    async def is_reader(self, organisation_id: UserId, user_id: UserId) -> bool:
        return await self._connection.fetchrow(_IS_READER, organisation_id, user_id) is not None

    async def forget_reader(self, user_id: UserId) -> None:
        await self._connection.execute(_FORGET_READER, user_id)

    async def began_a_trial(self, user_id: UserId) -> bool:
        await self._connection.execute(_TAKE_TURN, str(user_id))
        row = await self._connection.fetchrow(_BEGAN_A_TRIAL, user_id)
        return row is not None and bool(row["began"])

    async def changes_of(self, user_id: UserId) -> Sequence[Subscription]:
        return [_change(row) for row in await self._connection.fetch(_CHANGES, user_id)]


def from_row(row: Row) -> Subscription:
    """A subscription out of its row."""
    return Subscription(
        user_id=UserId(row["user_id"]),
        tier_name=row["tier"],
        seats=row["seats"],
        revision=row["revision"],
        changed_at=row["changed_at"],
        is_organisation=row["is_organisation"],
        state=State(row["state"]),
        anchor=row["anchor"],
        period_begins=row["period_begins"],
        period_ends=row["period_ends"],
        unit_price_microusd=row["unit_price_microusd"],
        price_version=row["price_version"],
        next_tier_name=row["next_tier"],
        next_seats=row["next_seats"],
        cancels=row["cancels"],
        trial_used_at=row["trial_used_at"],
        paid_ahead=row["paid_ahead"],
        owed_microusd=row["owed_microusd"],
        unpaid_since=row["unpaid_since"],
        dunning_step=row["dunning_step"],
        next_step_at=row["next_step_at"],
        terms_revision=row["terms_revision"],
        plan_revision=row["plan_revision"],
        planned_at=row["planned_at"],
    )


def _terms(of: Subscription) -> tuple[object, ...]:
    return (
        of.user_id,
        of.tier_name,
        of.seats,
        of.revision,
        of.changed_at,
        of.state.value,
        of.anchor,
        of.period_begins,
        of.period_ends,
        of.unit_price_microusd,
        of.price_version,
        of.next_tier_name,
        of.next_seats,
        of.cancels,
        of.trial_used_at,
        of.paid_ahead,
        of.owed_microusd,
        of.unpaid_since,
        of.dunning_step,
        of.next_step_at,
        of.terms_revision,
        of.plan_revision,
        of.planned_at,
    )


def _change(row: Row) -> Subscription:
    # The books of old have no state.
    state = State.ACTIVE if row["state"] is None else State(row["state"])
    return Subscription(
        user_id=UserId(row["user_id"]),
        tier_name=row["tier"],
        seats=row["seats"],
        revision=row["revision"],
        changed_at=row["changed_at"],
        state=state,
    )
