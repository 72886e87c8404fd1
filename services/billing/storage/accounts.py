"""The sums of a holder's books."""

from __future__ import annotations

from dataclasses import replace

from services.billing.domain.balance import Account
from services.billing.domain.giving_back import FamilyBooks, family_of_period
from services.billing.storage.charges import from_row
from services.billing.storage.line_families import families
from shared.db.database import Connection
from shared.ids import UserId

# One statement, so that all sums are of one moment. Money that changed nothing (`unused`) has come
# all the same.
_OF = """
select
    (select coalesce(sum(total_cents), 0) from invoice where holder_id = $1) as invoiced_cents,
    (select coalesce(sum(total_cents), 0) from credit_note where holder_id = $1)
        as credited_cents,
    (select coalesce(sum(amount_microusd), 0) from payment
     where holder_id = $1 and kind in ('order', 'renewal', 'receipt')
       and state in ('paid', 'unused'))
        as paid_microusd,
    (select coalesce(-sum(amount_microusd), 0) from payment
     where holder_id = $1 and kind in ('refund', 'dispute') and state = 'paid')
        as returned_microusd,
    (select coalesce(sum(c.amount_microusd), 0) from charge c
     where c.holder_id = $1 and not exists (
         select 1 from invoice_item i where i.source_id = c.id and i.aspect = 'charge'))
        as uninvoiced_microusd,
    (select coalesce(sum(d.rest), 0) from (
         select id, carried_microusd as rest from invoice where holder_id = $1
         union all
         select id, -carried_microusd from credit_note where holder_id = $1) d
     where not exists (
         select 1 from invoice_item i where i.source_id = d.id and i.aspect = 'carry'))
        as carried_microusd
"""
# As a run takes them.
_PENDING = """
select c.* from charge c
where c.holder_id = $1 and not exists (
    select 1 from invoice_item i where i.source_id = c.id and i.aspect = 'charge')
order by c.id
"""


class SqlAccounts:
    """Accounts on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of(self, holder: UserId) -> Account:
        row = await self._connection.fetchrow(_OF, holder)
        assert row is not None
        account = Account(**{name: int(value) for name, value in row.items()})
        return replace(
            account,
            uninvoiced_microusd=account.uninvoiced_microusd + await self._given_back(holder),
        )

    async def _given_back(self, holder: UserId) -> int:
        """What the next invoice gives back less, since credit notes have given it back."""
        charges = [from_row(row) for row in await self._connection.fetch(_PENDING, holder)]
        if all(charge.amount_microusd >= 0 for charge in charges):
            return 0
        ids = [family_of_period(charge.holder, charge.ends) for charge in charges]
        books = FamilyBooks.of(await families(self._connection, list(set(ids))))
        amounts = [charge.amount_microusd for charge in charges]
        return sum(books.charge(list(zip(ids, amounts, strict=True))))
