"""Whom invoices are made out to."""

from __future__ import annotations

from datetime import datetime

from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.subscription import Holder
from shared.db.database import Connection
from shared.ids import UserId

_OF = """
select name, address_lines, city, postal_code, country, vat_id, email, purchase_order
from billing_details where holder_id = $1 and left_at is null
"""
_KEEP = """
insert into billing_details
    (holder_id, is_organisation, changed_at, name, address_lines, city, postal_code, country,
     vat_id, email, purchase_order)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict (holder_id) do update set
    changed_at = excluded.changed_at, name = excluded.name,
    address_lines = excluded.address_lines, city = excluded.city,
    postal_code = excluded.postal_code, country = excluded.country, vat_id = excluded.vat_id,
    email = excluded.email, purchase_order = excluded.purchase_order, left_at = null
"""
# A business needs an invoice in its name; who is none is forgotten at once.
_IS_OWED_AN_INVOICE = """
(d.is_organisation or d.vat_id is not null) and exists (
    select 1 from charge c where c.holder_id = d.holder_id and not exists (
        select 1 from invoice_item i where i.source_id = c.id and i.aspect = 'charge'))
"""
_FORGET = f"""
delete from billing_details d where holder_id = $1 and not ({_IS_OWED_AN_INVOICE})
"""  # noqa: S608 - made of the constant above
_LEAVE = """
update billing_details set left_at = $2, email = null where holder_id = $1 and left_at is null
"""
_DROP_LEFT = f"""
delete from billing_details d
where left_at is not null and (left_at < $1 or not ({_IS_OWED_AN_INVOICE}))
"""  # noqa: S608


class SqlBillingDetails:
    """Billing details on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of(self, holder_id: UserId) -> BillingDetails | None:
        row = await self._connection.fetchrow(_OF, holder_id)
        return BillingDetails.of_facts(dict(row)) if row else None

    async def keep(self, holder: Holder, details: BillingDetails, at: datetime) -> None:
        await self._connection.execute(
            _KEEP,
            holder.id,
            holder.is_organisation,
            at,
            details.name,
            list(details.address_lines),
            details.city,
            details.postal_code,
            details.country,
            details.vat_id,
            details.email,
            details.purchase_order,
        )

    async def forget(self, holder_id: UserId, at: datetime) -> None:
        await self._connection.execute(_FORGET, holder_id)
        await self._connection.execute(_LEAVE, holder_id, at)

    async def drop_left(self, *, before: datetime) -> int:
        tag = await self._connection.execute(_DROP_LEFT, before)
        return int(tag.rpartition(" ")[2])
