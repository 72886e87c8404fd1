"""`/billing/details`: whom invoices are made out to."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from services.billing.api.dependencies import Payer, ServiceActions
from services.billing.api.subscription import holder_of
from services.billing.domain import billing_details as limits
from services.billing.domain.billing_details import BillingDetails
from shared.http.caller import SignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/billing", tags=["invoices"])

_AddressLine = Annotated[str, Field(max_length=limits.MOST_LINE)]


class DetailsBody(BaseModel):
    """A name and an address as they stand on invoices from now on. `country` is a code of two
    letters (ISO 3166-1); `vat_id` is written like one of that country; `purchase_order` is your
    own reference, which invoices repeat."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=limits.MOST_NAME)
    address_lines: list[_AddressLine] = Field(min_length=1, max_length=limits.MOST_ADDRESS_LINES)
    city: str = Field(min_length=1, max_length=limits.MOST_LINE)
    postal_code: str = Field("", max_length=limits.MOST_POSTAL_CODE)
    country: str = Field(min_length=2, max_length=2)
    vat_id: str | None = Field(None, max_length=limits.MOST_VAT_ID)
    email: str | None = Field(None, max_length=limits.MOST_EMAIL)
    purchase_order: str | None = Field(None, max_length=limits.MOST_PURCHASE_ORDER)

    @classmethod
    def of(cls, details: BillingDetails) -> DetailsBody:
        return cls(**details.facts())


class WhoseDetails(DetailsBody):
    """For oneself, or for an organisation: told as it is taken, so that who changes an answer and
    sends it back changes the same details."""

    organisation_id: UUID | None = None

    @classmethod
    def of_whom(cls, details: BillingDetails, organisation_id: UUID | None) -> WhoseDetails:
        return cls(**details.facts(), organisation_id=organisation_id)

    def checked(self) -> BillingDetails:
        """Raises BillingDetailsNotAcceptable."""
        return BillingDetails.checked(**self.model_dump(exclude={"organisation_id"}))


@router.get(
    "/details",
    responses=problems(
        401,
        422,
        _403="organisation_billing_required",
        _404="billing_details_not_found, subscription_not_found",
        _503="dependency_unavailable",
    ),
)
async def show_details(
    actions: ServiceActions,
    caller: SignedIn,
    organisation_id: Annotated[UUID | None, Query(description="Yours, to see its own.")] = None,
) -> WhoseDetails:
    """Whom your invoices, or your organisation's, are made out to."""
    holder = holder_of(caller, organisation_id)
    details = await actions.show_billing_details(holder, by=caller.identity.user_id)
    return WhoseDetails.of_whom(details, organisation_id)


@router.put(
    "/details",
    responses=problems(
        401,
        _403="organisation_billing_required, scope_missing",
        _404="subscription_not_found",
        _422="billing_details_not_acceptable",
        _503="dependency_unavailable",
    ),
)
async def keep_details(
    wanted: WhoseDetails, actions: ServiceActions, caller: Payer
) -> WhoseDetails:
    """Tell whom invoices are made out to from now on; those that were issued stay as they are."""
    details = wanted.checked()
    holder = holder_of(caller, wanted.organisation_id)
    await actions.keep_billing_details(holder, details, by=caller.identity.user_id)
    return WhoseDetails.of_whom(details, wanted.organisation_id)
