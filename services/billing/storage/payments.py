"""Payments, who makes them, and what payment providers told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.billing.domain.payment import (
    News,
    Payer,
    Payment,
    PaymentId,
    PaymentKind,
    PaymentState,
    Wish,
)
from shared.db.database import Connection, Row
from shared.ids import UserId

_GET = "select * from payment where id = $1"
_HOLD = "select * from payment where id = $1 for update"
_OPEN_OF = """
select * from payment where holder_id = $1 and kind = $2 and state = 'open' for update
"""
_BY_REFERENCE = "select * from payment where provider = $1 and reference = $2 for update"
_ADD = """
insert into payment
    (id, holder_id, is_organisation, kind, state, provider, amount_microusd, asked_by, created_at,
     tier, seats, unit_price_microusd, price_version, reference, checkout_url, settled_at, note,
     settles, base_revision, base_terms_revision)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
"""
_BOOK = _ADD + "on conflict (provider, reference) do nothing returning id"
_IS_ORGANISATION = """
select is_organisation from (
    select is_organisation, 1 as place from subscription where user_id = $1
    union all select is_organisation, 2 from invoice where holder_id = $1
    union all select is_organisation, 3 from charge where holder_id = $1
    union all select is_organisation, 4 from payment where holder_id = $1
) as known order by place limit 1
"""
_SAVE = """
update payment set state = $2, amount_microusd = $3, reference = $4, checkout_url = $5,
    settled_at = $6, settles = $7, provider = $8
where id = $1
"""
_FORGET_NOTES = "update payment set note = null where holder_id = $1 and note is not null"
_VOID_OPEN = """
update payment set state = 'void', settled_at = $2
where holder_id = $1 and kind = 'order' and state = 'open'
"""
# The next that was paid, unless that was a purchase anew, or something else had been decided before
# it was wished for: then it was not collected as the difference. Orders of the release before know
# neither, and stay unused.
_HAS_GROWN = """
select checkout_url is null and base_terms_revision <= $4 as found from payment
where holder_id = $1 and id > $2 and provider = $3 and kind = 'order' and state = 'paid'
order by id limit 1
"""
# All since the last purchase, and since what was held was decided otherwise, were the difference to
# one another.
_USE_GROWN = """
update payment set state = 'paid'
where holder_id = $1 and id < $2 and provider = $3 and kind = 'order' and state = 'unused'
  and checkout_url is null
  and id > coalesce((
    select max(id::text)::uuid from payment
    where holder_id = $1 and id < $2 and kind = 'order' and state = 'paid'
      and checkout_url is not null), $4)
  and base_revision >= $5
"""

_UNPAID_ORDERS = """
select * from payment
where holder_id = $1 and id < $2 and kind = 'order'
  and (state = 'open' or state = 'void' and checkout_url is null)
order by id desc limit $3
"""
_OF = """
select * from payment where holder_id = $1 and id < $2 order by id desc limit $3
"""
_ALL = "select * from payment where id < $1 order by id desc limit $2"
_UNUSED = """
select * from payment where state = 'unused' and id > $1 order by id limit $2
"""
# Which payment went back, a payment provider doesn't tell: of two of one sum it could be either.
_SETTLE_UNUSED = """
update payment set state = 'paid'
where holder_id = $1 and provider = $2 and amount_microusd = $3 and state = 'unused'
  and 1 = (
    select count(*) from payment
    where holder_id = $1 and provider = $2 and amount_microusd = $3 and state in ('paid', 'unused'))
"""
_SET_ASIDE = """
update payment set state = 'unused' where id = (
    select id from payment
    where holder_id = $1 and provider = $2 and id <> $3 and state = 'paid'
      and kind in ('order', 'renewal') and amount_microusd > 0
    order by settled_at desc nulls last, id desc limit 1
) returning id
"""
_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)

_PAYER = "select * from payer where holder_id = $1"
_HOLD_PAYER = f"{_PAYER} for update"
_PAYER_OF = """
select p.* from payer p where p.provider = $1 and p.customer = $2
union
select p.* from payer p join spare_subscription s on s.holder_id = p.holder_id
where s.provider = $1 and s.customer = $2
"""
_KEEP_PAYER = """
insert into payer
    (holder_id, is_organisation, provider, customer, subscription, item, told_tier, told_seats,
     told_ending, last_told_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (holder_id) do update set
    provider = excluded.provider, customer = excluded.customer,
    subscription = excluded.subscription, item = excluded.item, told_tier = excluded.told_tier,
    told_seats = excluded.told_seats, told_ending = excluded.told_ending,
    last_told_at = excluded.last_told_at, tries = 0, next_try_at = null
"""
_WAIT = "least(interval '1 minute' * power(2, least(tries, 10)), interval '1 hour')"
_PUT_OFF = f"""
update payer set tries = tries + 1, next_try_at = $2::timestamptz + {_WAIT} where holder_id = $1
"""  # noqa: S608 - made of the text above

# A subscription that was dropped (its user is gone) or has ended needs nobody's money any more.
_TO_TELL = """
with wanted as (
    select p.*,
           coalesce(s.next_tier, s.tier) as wanted_tier,
           coalesce(s.next_seats, s.seats) as wanted_seats,
           coalesce(s.cancels, false) as wanted_ending,
           s.user_id is null or s.period_ends is null as wanted_end
    from payer p left join subscription s on s.user_id = p.holder_id
    where p.subscription is not null and p.provider = $1
      and (p.next_try_at is null or p.next_try_at <= $2)
)
select * from wanted
where wanted_end
   or told_ending is distinct from wanted_ending
   or not wanted_ending
      and (told_tier, told_seats) is distinct from (wanted_tier, wanted_seats)
order by next_try_at nulls first, holder_id
limit $3
"""

_NOTE_SPARE = """
insert into spare_subscription (provider, subscription, customer, holder_id, is_organisation)
values ($1, $2, $3, $4, $5) on conflict do nothing returning subscription
"""
_SPARES = """
select provider, subscription, customer, holder_id, is_organisation from spare_subscription
where ended_at is null and provider = $1 and (next_try_at is null or next_try_at <= $2)
order by next_try_at nulls first, noted_at limit $3
"""
_PUT_OFF_SPARE = f"""
update spare_subscription set tries = tries + 1, next_try_at = $3::timestamptz + {_WAIT}
where provider = $1 and subscription = $2
"""  # noqa: S608 - made of the text above
_SPARE_ENDED = """
update spare_subscription set ended_at = $3 where provider = $1 and subscription = $2
"""

_NOTE = """
insert into payment_event (provider, event_id, kind, happened_at) values ($1, $2, $3, $4)
on conflict do nothing returning event_id
"""
_CURSOR = "select event_id from payment_cursor where provider = $1"
_MOVE_CURSOR = """
insert into payment_cursor as known (provider, event_id, moved_to) values ($1, $2, $3)
on conflict (provider) do update set event_id = excluded.event_id, moved_to = excluded.moved_to
where known.moved_to <= excluded.moved_to
"""


class SqlPayments:
    """Payments on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, payment_id: PaymentId) -> Payment | None:
        return _payment(await self._connection.fetchrow(_GET, payment_id))

    async def hold(self, payment_id: PaymentId) -> Payment | None:
        return _payment(await self._connection.fetchrow(_HOLD, payment_id))

    async def open_of(self, holder: UserId, kind: PaymentKind) -> Payment | None:
        return _payment(await self._connection.fetchrow(_OPEN_OF, holder, kind.value))

    async def by_reference(self, provider: str, reference: str) -> Payment | None:
        return _payment(await self._connection.fetchrow(_BY_REFERENCE, provider, reference))

    async def add(self, payment: Payment) -> None:
        await self._connection.execute(_ADD, *_row(payment))

    async def book(self, payment: Payment) -> bool:
        return await self._connection.fetchrow(_BOOK, *_row(payment)) is not None

    async def is_organisation(self, holder: UserId) -> bool | None:
        row = await self._connection.fetchrow(_IS_ORGANISATION, holder)
        return None if row is None else bool(row["is_organisation"])

    async def save(self, payment: Payment) -> None:
        await self._connection.execute(
            _SAVE,
            payment.id,
            payment.state.value,
            payment.amount_microusd,
            payment.reference,
            payment.checkout_url,
            payment.settled_at,
            payment.settles,
            payment.provider,
        )

    async def forget_notes(self, holder: UserId) -> None:
        await self._connection.execute(_FORGET_NOTES, holder)

    async def void_open(self, holder: UserId, at: datetime) -> None:
        await self._connection.execute(_VOID_OPEN, holder, at)

    async def use_grown(self, order: Payment) -> None:
        if order.is_of_change:
            key = (order.holder, order.id, order.provider)
            since = order.base_terms_revision
            await self._connection.execute(_USE_GROWN, *key, _FIRST, since)

    async def has_grown(self, order: Payment) -> bool:
        if not order.is_of_change:
            return False
        key = (order.holder, order.id, order.provider)
        row = await self._connection.fetchrow(_HAS_GROWN, *key, order.base_revision)
        return row is not None and bool(row["found"])

    async def unpaid_orders(
        self, holder: UserId, *, before: PaymentId | None, most: int
    ) -> Sequence[Payment]:
        rows = await self._connection.fetch(_UNPAID_ORDERS, holder, before or _LAST, most)
        return [found for row in rows if (found := _payment(row)) is not None]

    async def of(
        self, holder: UserId | None, *, before: PaymentId | None, most: int
    ) -> Sequence[Payment]:
        where = (before or _LAST, most)
        if holder is None:
            rows = await self._connection.fetch(_ALL, *where)
        else:
            rows = await self._connection.fetch(_OF, holder, *where)
        return [found for row in rows if (found := _payment(row)) is not None]

    async def unused(self, *, after: PaymentId | None, most: int) -> Sequence[Payment]:
        rows = await self._connection.fetch(_UNUSED, after or _FIRST, most)
        return [found for row in rows if (found := _payment(row)) is not None]

    async def settle_unused(self, holder: UserId, provider: str, amount_microusd: int) -> None:
        await self._connection.execute(_SETTLE_UNUSED, holder, provider, amount_microusd)

    async def set_aside(self, holder: UserId, provider: str, *, but: PaymentId) -> PaymentId | None:
        row = await self._connection.fetchrow(_SET_ASIDE, holder, provider, but)
        return PaymentId(row["id"]) if row else None

    async def payer(self, holder: UserId) -> Payer | None:
        return _payer(await self._connection.fetchrow(_PAYER, holder))

    async def hold_payer(self, holder: UserId) -> Payer | None:
        return _payer(await self._connection.fetchrow(_HOLD_PAYER, holder))

    async def payer_of(self, provider: str, customer: str) -> Payer | None:
        return _payer(await self._connection.fetchrow(_PAYER_OF, provider, customer))

    async def keep_payer(self, payer: Payer) -> None:
        told = payer.told
        await self._connection.execute(
            _KEEP_PAYER,
            payer.holder,
            payer.is_organisation,
            payer.provider,
            payer.customer,
            payer.subscription,
            payer.item,
            told.tier_name if told else None,
            told.seats if told else None,
            told.ending if told else None,
            payer.last_told_at,
        )

    async def payers_to_tell(
        self, provider: str, now: datetime, *, most: int
    ) -> Sequence[tuple[Payer, Wish]]:
        rows = await self._connection.fetch(_TO_TELL, provider, now, most)
        return [(_payer_of_row(row), _wish(row)) for row in rows]

    async def put_off(self, payer: Payer, now: datetime) -> None:
        await self._connection.execute(_PUT_OFF, payer.holder, now)

    async def note_spare(self, payer: Payer) -> bool:
        row = await self._connection.fetchrow(
            _NOTE_SPARE,
            payer.provider,
            payer.subscription,
            payer.customer,
            payer.holder,
            payer.is_organisation,
        )
        return row is not None

    async def spares(self, provider: str, now: datetime, *, most: int) -> Sequence[Payer]:
        rows = await self._connection.fetch(_SPARES, provider, now, most)
        return [
            Payer(
                holder=UserId(row["holder_id"]),
                is_organisation=row["is_organisation"],
                provider=row["provider"],
                customer=row["customer"],
                subscription=row["subscription"],
            )
            for row in rows
        ]

    async def put_off_spare(self, payer: Payer, now: datetime) -> None:
        await self._connection.execute(_PUT_OFF_SPARE, payer.provider, payer.subscription, now)

    async def spare_ended(self, payer: Payer, at: datetime) -> None:
        await self._connection.execute(_SPARE_ENDED, payer.provider, payer.subscription, at)

    async def note(self, news: News) -> bool:
        row = await self._connection.fetchrow(
            _NOTE, news.provider, news.event_id, news.kind.value, news.happened_at
        )
        return row is not None

    async def cursor(self, provider: str) -> str | None:
        row = await self._connection.fetchrow(_CURSOR, provider)
        return str(row["event_id"]) if row else None

    async def move_cursor(self, provider: str, event_id: str, at: datetime) -> None:
        await self._connection.execute(_MOVE_CURSOR, provider, event_id, at)


def _payment(row: Row | None) -> Payment | None:
    if row is None:
        return None
    return Payment(
        id=PaymentId(row["id"]),
        holder=UserId(row["holder_id"]),
        is_organisation=row["is_organisation"],
        kind=PaymentKind(row["kind"]),
        state=PaymentState(row["state"]),
        provider=row["provider"],
        amount_microusd=row["amount_microusd"],
        asked_by=UserId(row["asked_by"]),
        created_at=row["created_at"],
        tier_name=row["tier"],
        seats=row["seats"],
        unit_price_microusd=row["unit_price_microusd"],
        price_version=row["price_version"],
        reference=row["reference"],
        checkout_url=row["checkout_url"],
        settled_at=row["settled_at"],
        note=row["note"],
        settles=PaymentId(row["settles"]) if row["settles"] else None,
        base_revision=row["base_revision"],
        base_terms_revision=row["base_terms_revision"],
    )


def _row(payment: Payment) -> tuple[object, ...]:
    return (
        payment.id,
        payment.holder,
        payment.is_organisation,
        payment.kind.value,
        payment.state.value,
        payment.provider,
        payment.amount_microusd,
        payment.asked_by,
        payment.created_at,
        payment.tier_name,
        payment.seats,
        payment.unit_price_microusd,
        payment.price_version,
        payment.reference,
        payment.checkout_url,
        payment.settled_at,
        payment.note,
        payment.settles,
        payment.base_revision,
        payment.base_terms_revision,
    )


def _payer(row: Row | None) -> Payer | None:
    return None if row is None else _payer_of_row(row)


def _payer_of_row(row: Row) -> Payer:
    told = row["told_tier"]
    return Payer(
        holder=UserId(row["holder_id"]),
        is_organisation=row["is_organisation"],
        provider=row["provider"],
        customer=row["customer"],
        subscription=row["subscription"],
        item=row["item"],
        told=Wish(told, row["told_seats"], row["told_ending"]) if told is not None else None,
        last_told_at=row["last_told_at"],
    )


def _wish(row: Row) -> Wish:
    return Wish(
        row["wanted_tier"] or "",
        row["wanted_seats"] or 1,
        ending=row["wanted_ending"],
        ended=row["wanted_end"],
    )
