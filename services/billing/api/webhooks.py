"""`/billing/webhooks` and `/billing/admin/webhooks`: where somebody is told what happened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.billing.actions.keep_webhooks import Asker, Change
from services.billing.api.dependencies import (
    Cursor,
    NearMoment,
    Payer,
    ServiceActions,
    is_billing_staff,
)
from services.billing.domain.errors import NotBillingStaff, TooManyDeliveries
from services.billing.domain.webhook import (
    Delivery,
    DeliveryId,
    Endpoint,
    EndpointId,
    SigningSecret,
)
from services.billing.domain.webhook_url import LONGEST_URL
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems
from shared.limits.local import LocalLimit

router = APIRouter(prefix="/billing/webhooks", tags=["webhooks"])
# The same doors for the operator's own endpoints, which are told of everybody.
staff_router = APIRouter(prefix="/billing/admin/webhooks", tags=["billing team"])

_PAGE = 50
SENT_A_MINUTE = 30
# Per replica: nobody has us fill somebody else's machine with tests and repetitions.
_sent = LocalLimit()
_NOT_ALLOWED = "organisation_billing_required, not_billing_staff, scope_missing"
_FOUND = problems(401, 422, _403=_NOT_ALLOWED, _404="webhook_not_found")
_OWNED = problems(401, 422, _403=_NOT_ALLOWED, _404="subscription_not_found")

OrganisationId = Annotated[
    UUID | None, Query(description="Your organisation, if you may buy for it: its webhooks.")
]
PageSize = Annotated[int, Query(ge=1, le=200)]
TypeNames = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=40)]],
    Field(max_length=20, description="Empty: all but `usage.recorded`, which has to be named."),
]
Url = Annotated[str, Field(min_length=1, max_length=LONGEST_URL)]


class NewWebhook(BaseModel):
    """Where to tell what. `usage_from_beginning`: the billing team may have the whole ledger, else
    what comes from now on."""

    model_config = ConfigDict(extra="forbid")

    url: Url
    types: TypeNames = []
    organisation_id: UUID | None = None
    usage_from_beginning: bool = Field(False, strict=True)


class WebhookChange(BaseModel):
    """What is to be another; what is left out stays. Enabled again, it is as if it never failed."""

    model_config = ConfigDict(extra="forbid")

    url: Url | None = None
    types: TypeNames | None = None
    enabled: bool | None = Field(None, strict=True)


class Redelivery(BaseModel):
    """What to send again: what was made since then and is dead, or (`all`) delivered too."""

    model_config = ConfigDict(extra="forbid")

    since: NearMoment
    all: bool = Field(False, strict=True)


class NewSecret(BaseModel):
    """How to change the secret. `drop`: of two that sign by now, the one that ends at once; a
    receiver that holds it takes nothing more. `newer` where the last one was never put to use, or
    others saw it; `older` where the receiver has the newer one."""

    model_config = ConfigDict(extra="forbid")

    drop: SigningSecret | None = None


class WebhookBody(BaseModel):
    """A webhook, without its secret. `disabled_because`: `by_owner`, `gone` (it answered 410) or
    `failing` (for five days)."""

    id: UUID
    organisation_id: UUID | None
    url: str
    types: list[str]
    created_by: UUID
    created_at: datetime
    enabled: bool
    disabled_at: datetime | None
    disabled_because: Literal["by_owner", "gone", "failing"] | None
    failing_since: datetime | None
    paused_until: datetime | None
    old_secret_until: datetime | None

    @classmethod
    def of(cls, endpoint: Endpoint) -> WebhookBody:
        return cls(**_fields_of(endpoint))


class WebhookWithSecretBody(WebhookBody):
    """The same with its secret, which is told this once."""

    secret: str

    @classmethod
    def with_secret(cls, endpoint: Endpoint, secret: str) -> WebhookWithSecretBody:
        return cls(**_fields_of(endpoint), secret=secret)


class DeliveryBody(BaseModel):
    """One message to one webhook. `last_problem`: what was in the way if there was no answer."""

    id: UUID
    webhook_id: UUID
    message_id: str
    type: str
    state: Literal["waiting", "delivered", "dead"]
    created_at: datetime
    attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    last_status: int | None
    last_problem: str | None

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryBody:
        return cls(
            id=delivery.id,
            webhook_id=delivery.endpoint_id,
            message_id=delivery.message_id,
            type=delivery.type,
            state=delivery.state,
            created_at=delivery.created_at,
            attempts=delivery.attempts,
            next_attempt_at=delivery.next_attempt_at if delivery.state == "waiting" else None,
            last_attempt_at=delivery.last_attempt_at,
            last_status=delivery.last_status,
            last_problem=delivery.last_problem,
        )


class RedeliveredBody(BaseModel):
    """How many deliveries are sent again."""

    deliveries: int


def _fields_of(endpoint: Endpoint) -> dict[str, Any]:
    is_organisation = endpoint.owner.kind == "organisation"
    return {
        "id": endpoint.id,
        "organisation_id": endpoint.owner.id if is_organisation else None,
        "url": endpoint.url,
        "types": list(endpoint.types),
        "created_by": endpoint.created_by,
        "created_at": endpoint.created_at,
        "enabled": endpoint.disabled_at is None,
        "disabled_at": endpoint.disabled_at,
        "disabled_because": endpoint.disabled_because,
        "failing_since": endpoint.failing_since,
        "paused_until": endpoint.paused_until,
        "old_secret_until": endpoint.old_secret_until,
    }


async def _asker(request: Request, caller: Payer) -> Asker:
    """Raises ScopeMissing, or NotBillingStaff at the operator's doors."""
    at_operators = request.url.path.startswith(staff_router.prefix)
    if at_operators and not is_billing_staff(caller):
        raise NotBillingStaff
    return Asker(caller.identity.user_id, is_staff=at_operators)


Asking = Annotated[Asker, Depends(_asker)]


async def _asker_in_no_flood(asker: Asking) -> Asker:
    """Raises TooManyDeliveries."""
    if not _sent.take(str(asker.id), SENT_A_MINUTE):
        raise TooManyDeliveries(SENT_A_MINUTE, timedelta(seconds=60))
    return asker


Sending = Annotated[Asker, Depends(_asker_in_no_flood)]


@router.post(
    "",
    status_code=201,
    responses=_OWNED
    | problems(
        _409="too_many_webhooks",
        _422="webhook_url_not_allowed, unknown_webhook_type, …",
        _503="webhook_secrets_unavailable, dependency_unavailable",
    ),
)
@staff_router.post("", status_code=201, responses=_OWNED | problems(_409="too_many_webhooks"))
async def create_webhook(
    wanted: NewWebhook, actions: ServiceActions, asker: Asking
) -> WebhookWithSecretBody:
    """Be told from now on. The secret, by which you know that it is us, is shown this once."""
    endpoint, secret = await actions.keep_webhooks.create(
        asker,
        wanted.url,
        wanted.types,
        organisation_id=wanted.organisation_id,
        usage_from_beginning=wanted.usage_from_beginning,
    )
    return WebhookWithSecretBody.with_secret(endpoint, secret)


@router.get("", responses=_OWNED)
@staff_router.get("", responses=_OWNED)
async def list_webhooks(
    actions: ServiceActions, asker: Asking, organisation_id: OrganisationId = None
) -> Page[WebhookBody]:
    """Yours, or your organisation's; ten at most."""
    found = await actions.keep_webhooks.list(asker, organisation_id)
    return Page(data=[WebhookBody.of(endpoint) for endpoint in found])


@router.get("/dead", responses=_OWNED)
@staff_router.get("/dead", responses=_OWNED)
async def list_dead_deliveries(
    actions: ServiceActions,
    asker: Asking,
    organisation_id: OrganisationId = None,
    limit: PageSize = _PAGE,
    cursor: Cursor = None,
) -> Page[DeliveryBody]:
    """What was tried for more than a day and given up, the newest first; kept for 90 days."""
    found = await actions.redeliver_webhooks.dead(
        asker, organisation_id, after=_position(cursor), most=limit + 1
    )
    return _page(found, limit)


@router.get("/{webhook_id}", responses=_FOUND)
@staff_router.get("/{webhook_id}", responses=_FOUND)
async def show_webhook(webhook_id: UUID, actions: ServiceActions, asker: Asking) -> WebhookBody:
    """A webhook and how it is doing."""
    return WebhookBody.of(await actions.keep_webhooks.show(EndpointId(webhook_id), asker))


@router.patch("/{webhook_id}", responses=_FOUND)
@staff_router.patch("/{webhook_id}", responses=_FOUND)
async def change_webhook(
    webhook_id: UUID, wanted: WebhookChange, actions: ServiceActions, asker: Asking
) -> WebhookBody:
    """Another address, other types, off or on. What waits when it is switched off is dead, and can
    be sent again later."""
    change = Change(wanted.url, wanted.types, wanted.enabled)
    changed = await actions.keep_webhooks.change(EndpointId(webhook_id), asker, change)
    return WebhookBody.of(changed)


@router.delete("/{webhook_id}", status_code=204, responses=_FOUND)
@staff_router.delete("/{webhook_id}", status_code=204, responses=_FOUND)
async def delete_webhook(webhook_id: UUID, actions: ServiceActions, asker: Asking) -> None:
    """With all that waits for it."""
    await actions.keep_webhooks.delete(EndpointId(webhook_id), asker)


@router.post(
    "/{webhook_id}/secret", responses=_FOUND | problems(_409="webhook_secret_still_changing")
)
@staff_router.post(
    "/{webhook_id}/secret", responses=_FOUND | problems(_409="webhook_secret_still_changing")
)
async def rotate_webhook_secret(
    webhook_id: UUID, actions: ServiceActions, asker: Asking, wanted: NewSecret | None = None
) -> WebhookWithSecretBody:
    """A new secret, shown this once. Messages are signed with both for a day. Within that day
    another one is refused, unless you say which of the two is to `drop`."""
    endpoint, secret = await actions.keep_webhooks.rotate_secret(
        EndpointId(webhook_id), asker, drop=wanted.drop if wanted else None
    )
    return WebhookWithSecretBody.with_secret(endpoint, secret)


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    responses=_FOUND
    | problems(_409="webhook_disabled, webhook_test_waits", _429="too_many_deliveries"),
)
@staff_router.post(
    "/{webhook_id}/test",
    status_code=202,
    responses=_FOUND
    | problems(_409="webhook_disabled, webhook_test_waits", _429="too_many_deliveries"),
)
async def test_webhook(webhook_id: UUID, actions: ServiceActions, asker: Sending) -> DeliveryBody:
    """Send a `webhook.test`; the deliveries tell what came of it."""
    return DeliveryBody.of(await actions.redeliver_webhooks.test(EndpointId(webhook_id), asker))


@router.get("/{webhook_id}/deliveries", responses=_FOUND)
@staff_router.get("/{webhook_id}/deliveries", responses=_FOUND)
async def list_deliveries(
    webhook_id: UUID,
    actions: ServiceActions,
    asker: Asking,
    state: Literal["waiting", "delivered", "dead"] | None = None,
    limit: PageSize = _PAGE,
    cursor: Cursor = None,
) -> Page[DeliveryBody]:
    """The newest first. What was delivered is kept for 30 days."""
    found = await actions.redeliver_webhooks.list(
        EndpointId(webhook_id), asker, state=state, after=_position(cursor), most=limit + 1
    )
    return _page(found, limit)


@router.post(
    "/{webhook_id}/redeliver",
    status_code=202,
    responses=_FOUND | problems(_409="webhook_disabled", _429="too_many_deliveries"),
)
@staff_router.post(
    "/{webhook_id}/redeliver",
    status_code=202,
    responses=_FOUND | problems(_409="webhook_disabled", _429="too_many_deliveries"),
)
async def redeliver_since(
    webhook_id: UUID, wanted: Redelivery, actions: ServiceActions, asker: Sending
) -> RedeliveredBody:
    """Send again what was made since a moment, under the ids that it had."""
    return RedeliveredBody(
        deliveries=await actions.redeliver_webhooks.since(
            EndpointId(webhook_id), asker, wanted.since, all_states=wanted.all
        )
    )


_DELIVERY = problems(
    401,
    422,
    _403=_NOT_ALLOWED,
    _404="webhook_delivery_not_found",
    _409="webhook_disabled",
    _429="too_many_deliveries",
)


@router.post("/deliveries/{delivery_id}/redeliver", status_code=202, responses=_DELIVERY)
@staff_router.post("/deliveries/{delivery_id}/redeliver", status_code=202, responses=_DELIVERY)
async def redeliver(delivery_id: UUID, actions: ServiceActions, asker: Sending) -> DeliveryBody:
    """Send one again, whatever became of it, under the id that it had."""
    return DeliveryBody.of(await actions.redeliver_webhooks.again(DeliveryId(delivery_id), asker))


def _position(cursor: str | None) -> DeliveryId | None:
    return DeliveryId(read_cursor(cursor, UUID)[0]) if cursor else None


def _page(found: Sequence[Delivery], limit: int) -> Page[DeliveryBody]:
    return Page.of(found, limit, lambda delivery: cursor_of(delivery.id)).as_bodies(DeliveryBody.of)
