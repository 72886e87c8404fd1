"""What was charged."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.billing.domain.charge import Charge, ChargeId, ChargeKind
from shared.db.database import Connection, Row
from shared.ids import UserId

# No `on conflict`: an effect that is there already is a mistake of ours, and fails the work.
_ADD = """
insert into charge
    (id, holder_id, is_organisation, kind, tier, seats, unit_price_microusd, price_version,
     begins, ends, amount_microusd, effect_key, revision, charged_at)
select * from unnest(
    $1::uuid[], $2::uuid[], $3::boolean[], $4::text[], $5::text[], $6::int[], $7::bigint[],
    $8::text[], $9::timestamptz[], $10::timestamptz[], $11::bigint[], $12::text[], $13::bigint[],
    $14::timestamptz[])
"""

_OF = """
select * from charge where holder_id = $1 and id < $2 order by id desc limit $3
"""

_LAST = UUID(int=(1 << 128) - 1)


class SqlCharges:
    """Charges on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, charges: Sequence[Charge]) -> None:
        if charges:
            columns = zip(*(_to_row(charge) for charge in charges), strict=True)
            await self._connection.execute(_ADD, *(list(column) for column in columns))

    async def of(self, holder: UserId, *, after: ChargeId | None, most: int) -> Sequence[Charge]:
        rows = await self._connection.fetch(_OF, holder, after or _LAST, most)
        return [from_row(row) for row in rows]


def _to_row(charge: Charge) -> tuple[object, ...]:
    return (
        charge.id,
        charge.holder,
        charge.is_organisation,
        charge.kind.value,
        charge.tier_name,
        charge.seats,
        charge.unit_price_microusd,
        charge.price_version,
        charge.begins,
        charge.ends,
        charge.amount_microusd,
        charge.effect_key,
        charge.revision,
        charge.charged_at,
    )


def from_row(row: Row) -> Charge:
    """A charge out of its row."""
    return Charge(
        id=ChargeId(row["id"]),
        holder=UserId(row["holder_id"]),
        is_organisation=row["is_organisation"],
        kind=ChargeKind(row["kind"]),
        tier_name=row["tier"],
        seats=row["seats"],
        unit_price_microusd=row["unit_price_microusd"],
        price_version=row["price_version"],
        begins=row["begins"],
        ends=row["ends"],
        amount_microusd=row["amount_microusd"],
        effect_key=row["effect_key"],
        revision=row["revision"],
        charged_at=row["charged_at"],
    )
