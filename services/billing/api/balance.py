"""`/billing/balance`: what is owed by the books."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from services.billing.api.dependencies import ServiceActions
from services.billing.api.staff_looks import StaffLooking
from services.billing.api.subscription import holder_of
from services.billing.domain.balance import Balance
from services.billing.domain.invoice import CURRENCY
from shared.http.caller import SignedIn
from shared.http.dollars import DollarsBeside
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/billing", tags=["invoices"])
team_router = APIRouter(prefix="/billing/admin", tags=["billing team"])


class BalanceBody(DollarsBeside):
    """Invoices less credit notes less payments: what is owed; negative: what was paid beyond them.

    `uninvoiced_microusd` (charges) and `carried_microusd` (parts of cents) come onto the next
    invoice, before its tax and usage; `expected_microusd` is what is owed with them. Who paid for a
    period ahead has a negative balance until that period is invoiced.
    """

    currency: str
    invoiced_cents: int
    credited_cents: int
    paid_microusd: int
    returned_microusd: int
    owed_microusd: int
    uninvoiced_microusd: int
    carried_microusd: int
    expected_microusd: int

    @classmethod
    def of(cls, balance: Balance) -> BalanceBody:
        account = balance.account
        return cls(
            currency=CURRENCY,
            invoiced_cents=account.invoiced_cents,
            credited_cents=account.credited_cents,
            paid_microusd=account.paid_microusd,
            returned_microusd=account.returned_microusd,
            owed_microusd=balance.owed_microusd,
            uninvoiced_microusd=account.uninvoiced_microusd,
            carried_microusd=account.carried_microusd,
            expected_microusd=balance.expected_microusd,
        )


@router.get(
    "/balance",
    responses=problems(
        401,
        422,
        _403="organisation_billing_required",
        _404="subscription_not_found",
        _503="dependency_unavailable",
    ),
)
async def show_balance(
    actions: ServiceActions,
    caller: SignedIn,
    organisation_id: Annotated[UUID | None, Query(description="Yours, to see its own.")] = None,
) -> BalanceBody:
    """What you or your organisation owe, or have paid ahead."""
    holder = holder_of(caller, organisation_id)
    return BalanceBody.of(await actions.show_balance(holder, by=caller.identity.user_id))


@team_router.get("/balances/{holder_id}", responses=problems(401, 422, _403="not_billing_staff"))
async def show_anybodys_balance(
    holder_id: UUID, actions: ServiceActions, look: StaffLooking
) -> BalanceBody:
    """What a user or an organisation owes. That you looked is noted."""
    await look.at(holder_id)
    return BalanceBody.of(await actions.show_balance.of(UserId(holder_id)))
