"""Deleting an account, and asking later what has become of it."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.auth.api.dependencies import ServiceActions
from services.auth.domain.erasure import LONGEST_RECEIPT, SERVICES, Erasure, Receipt
from shared.http.caller import FreshlyProven
from shared.http.problems import problems

router = APIRouter(prefix="/auth", tags=["deletion"])


class ReceiptBody(BaseModel):
    """Keep the receipt: it is shown this once, and only it can tell what has become of this."""

    receipt: str
    requested_at: datetime
    voices_left: int | None = Field(
        description="How many voices that you had made here could not be deleted at their vendor"
        " with the key that you have now: they are in your account there, or in that of the"
        " organisation whose key made them, whose admins can delete them. null: nobody knows,"
        " since voice was away, one was being made, or this sign-in is not good for voice."
    )


class Lookup(BaseModel):
    """Whoever has a receipt."""

    model_config = ConfigDict(extra="forbid")

    receipt: SecretStr = Field(min_length=1, max_length=LONGEST_RECEIPT)


class ServiceErasure(BaseModel):
    """A service, and when it had forgotten the user; null while it has not."""

    service: str
    forgotten_at: datetime | None


class ErasureBody(BaseModel):
    """How far it has come; `completed_at` is null until every service has forgotten the user."""

    requested_at: datetime
    completed_at: datetime | None
    services: list[ServiceErasure]

    @classmethod
    def of(cls, erasure: Erasure) -> Self:
        return cls(
            requested_at=erasure.requested_at,
            completed_at=erasure.completed_at,
            services=[
                ServiceErasure(service=service, forgotten_at=erasure.forgotten.get(service))
                for service in SERVICES
            ],
        )


@router.delete(
    "/me",
    status_code=202,
    response_model=ReceiptBody,
    responses=problems(401, _403="step_up_required", _409="last_owner, account_busy"),
)
async def delete(actions: ServiceActions, caller: FreshlyProven) -> ReceiptBody:
    """Delete the caller's account at once, and have every service forget its user. Before that,
    voices that they had made are deleted at their vendor, which may take up to eight seconds."""
    deleted = await actions.delete_account(caller.identity.user_id, access_token=caller.token)
    return ReceiptBody(
        receipt=deleted.receipt.text,
        requested_at=deleted.erasure.requested_at,
        voices_left=deleted.voices_left,
    )


@router.post(
    "/erasures/lookup", response_model=ErasureBody, responses=problems(_404="erasure_not_found")
)
async def look_up(body: Lookup, actions: ServiceActions) -> ErasureBody:
    """Show which services have forgotten the user of a deleted account."""
    receipt = Receipt(body.receipt.get_secret_value())
    return ErasureBody.of(await actions.show_erasure(receipt))
