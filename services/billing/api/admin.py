"""`/billing/admin`: what the operator's billing team does."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from services.billing.actions.reconcile import Reconciliation
from services.billing.api.corrections import DriftBody, RollupCheckBody
from services.billing.api.dependencies import BillingStaff, NearMoment, ServiceActions
from services.billing.api.subscription import SubscriptionBody, WantedSubscription
from services.billing.domain.completeness import Gap, Progress
from services.billing.domain.manifest import HourManifest
from services.billing.domain.price_book import (
    MOST_MICROUSD_PER_MILLION,
    MOST_UNIT_MICROUSD,
    PriceOverride,
    UnitPrices,
)
from services.billing.domain.price_preview import PriceEffect
from shared.events.usage import UsageSums
from shared.http.dollars import DollarsBeside
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/billing/admin", tags=["billing team"])

_MOST_GAPS_SHOWN = 100

UnitPrice = Annotated[
    int | None, Field(ge=0, le=MOST_MICROUSD_PER_MILLION, strict=True, description="Micro-dollars.")
]


class UnitPricesBody(BaseModel):
    """Micro-dollars per million tokens of a class, and per million `characters`: of speech, credits
    as the vendor counts them (a character each, with its quick models half). Cached input without a
    price costs what plain input costs; any other class without one stays unknown."""

    input_microusd_per_million: UnitPrice = None
    cache_read_microusd_per_million: UnitPrice = None
    cache_write_microusd_per_million: UnitPrice = None
    output_microusd_per_million: UnitPrice = None
    characters_microusd_per_million: UnitPrice = None
    unit_microusd: Annotated[
        int | None,
        Field(
            ge=0,
            le=MOST_UNIT_MICROUSD,
            strict=True,
            description="Micro-dollars for one unit of a meter outside the suite.",
        ),
    ] = None


class NewPrice(UnitPricesBody):
    """A price of one model, by its vendor's id, from a moment on; without one from now on."""

    model_config = ConfigDict(extra="forbid")

    provider: str = Field(min_length=1, max_length=100)
    model: str = Field(min_length=1, max_length=300)
    effective_from: NearMoment | None = None
    rerate: bool = Field(
        False,
        strict=True,
        description="Whether entries that were rated by another price get a correction. "
        "See `/billing/admin/prices/preview` first.",
    )

    def unit_prices(self) -> UnitPrices:
        return UnitPrices(
            input=self.input_microusd_per_million,
            cache_read=self.cache_read_microusd_per_million,
            cache_write=self.cache_write_microusd_per_million,
            output=self.output_microusd_per_million,
            characters=self.characters_microusd_per_million,
            unit=self.unit_microusd,
        )


class PriceBody(UnitPricesBody, DollarsBeside):
    """A price as it is kept."""

    version: str
    provider: str
    model: str
    effective_from: datetime
    set_by: UUID
    set_at: datetime

    @classmethod
    def of(cls, price: PriceOverride) -> PriceBody:
        return cls(
            version=price.version,
            provider=price.provider,
            model=price.model,
            effective_from=price.effective_from,
            set_by=price.set_by,
            set_at=price.set_at,
            input_microusd_per_million=price.prices.input,
            cache_read_microusd_per_million=price.prices.cache_read,
            cache_write_microusd_per_million=price.prices.cache_write,
            output_microusd_per_million=price.prices.output,
            characters_microusd_per_million=price.prices.characters,
            unit_microusd=price.prices.unit,
        )


class GrantedSubscription(WantedSubscription):
    """What to give; `organisation` says that the id is an organisation's."""

    organisation: bool = Field(False, strict=True)


class RangeBody(BaseModel):
    """Sequence numbers, both ends included."""

    first: int
    last: int


class StreamBody(BaseModel):
    """How much of one producer's stream has come."""

    producer: str
    stream: str
    epoch: UUID
    complete_up_to: int
    highest_received: int
    announced: int
    missing: int
    gaps: list[RangeBody]  # the first ones
    replay_requests: int
    last_seen_at: datetime | None
    last_manifest_at: datetime | None

    @classmethod
    def of(cls, progress: Progress, gaps: list[Gap]) -> StreamBody:
        missing = islice(progress.missing(), _MOST_GAPS_SHOWN)
        return cls(
            producer=progress.stream.producer,
            stream=progress.stream.name,
            epoch=progress.stream.epoch,
            complete_up_to=progress.complete_up_to,
            highest_received=progress.highest_received,
            announced=progress.announced,
            missing=progress.missing_count,
            gaps=[RangeBody(first=first, last=last) for first, last in missing],
            replay_requests=sum(gap.requests for gap in gaps),
            last_seen_at=progress.last_seen_at,
            last_manifest_at=progress.last_manifest_at,
        )


class UnpricedBody(BaseModel):
    """Entries of one model that wait for a price."""

    provider: str
    model: str
    requests: int


class ProducerBody(BaseModel):
    """A producer: when it was heard of last (it says so when nothing was used, too), and how many
    hours of the last five weeks stand in the ledger as it told them."""

    producer: str
    last_heard_at: datetime
    silent: bool
    hours_matched: int
    hours_mismatched: int


class HourBody(BaseModel):
    """An hour that differs: what the producer told, and what the ledger has (null: not compared
    yet), by when they were compared last."""

    producer: str
    stream: str
    epoch: UUID
    hour: datetime
    announced: UsageSums
    announced_at: datetime
    recorded: UsageSums | None
    compared_at: datetime | None

    @classmethod
    def of(cls, hour: HourManifest) -> HourBody:
        return cls(
            producer=hour.stream.producer,
            stream=hour.stream.name,
            epoch=hour.stream.epoch,
            hour=hour.hour,
            announced=hour.announced,
            announced_at=hour.announced_at,
            recorded=hour.recorded,
            compared_at=hour.compared_at,
        )


class HeldBody(BaseModel):
    """What services outside the suite told that can't be counted as it is."""

    code: str
    meter: str
    events: int


class ReconciliationBody(BaseModel):
    """Whether the ledger is complete. `default_partition_rows` are entries whose id tells a time
    that no month was prepared for, but for old usage from outside; `dead_events` could not be
    handled."""

    streams: list[StreamBody]
    unpriced: list[UnpricedBody]
    unpriced_requests: int
    default_partition_rows: int
    dead_events: int
    producers: list[ProducerBody]
    mismatched_hours: list[HourBody]  # the first hundred
    held_usage: list[HeldBody]
    unlinked_records: int = Field(description="Not in the ledger's chain yet.")
    rollup_check: RollupCheckBody | None
    rollup_drifts: list[DriftBody]  # the first hundred that nobody has repaired

    @classmethod
    def of(cls, state: Reconciliation) -> ReconciliationBody:
        return cls(
            streams=[
                StreamBody.of(progress, [g for g in state.gaps if g.stream == progress.stream])
                for progress in state.progress
            ],
            unpriced=[
                UnpricedBody(provider=provider, model=model, requests=waiting)
                for (provider, model), waiting in state.unpriced
            ],
            unpriced_requests=sum(waiting for _, waiting in state.unpriced),
            default_partition_rows=state.stray_rows,
            dead_events=state.dead_events,
            producers=_producers(state),
            mismatched_hours=[HourBody.of(hour) for hour in state.mismatched],
            held_usage=[HeldBody(code=h.code, meter=h.meter, events=h.events) for h in state.held],
            unlinked_records=state.chain.waiting,
            rollup_check=RollupCheckBody.of(state.check),
            rollup_drifts=[DriftBody.of(drift) for drift in state.drifts],
        )


def _producers(state: Reconciliation) -> list[ProducerBody]:
    hours = {one.producer: one for one in state.hours}
    return [
        ProducerBody(
            producer=name,
            last_heard_at=heard,
            silent=name in state.silent,
            hours_matched=hours[name].matched if name in hours else 0,
            hours_mismatched=hours[name].mismatched if name in hours else 0,
        )
        for name, heard in sorted(state.last_heard.items())
    ]


@router.post("/prices", status_code=201, responses=problems(401, 403, 409, 422))
async def set_price(wanted: NewPrice, actions: ServiceActions, staff: BillingStaff) -> PriceBody:
    """Set a model's price. It wins over the public one from its moment on, and rates what waits."""
    since = wanted.effective_from.astimezone(UTC) if wanted.effective_from else None
    price = await actions.set_price(
        (wanted.provider, wanted.model),
        wanted.unit_prices(),
        effective_from=since,
        by=staff.identity.user_id,
        rerate=wanted.rerate,
    )
    return PriceBody.of(price)


class PriceEffectBody(DollarsBeside):
    """What a price would change in one tier. What waits is rated by it once it is set; a rating
    that was given stands, and `difference_microusd` is what its correction would come to."""

    tier: str
    waiting: int
    waiting_cost_microusd: int
    still_waiting: int
    rated: int
    cost_now_microusd: int
    cost_then_microusd: int
    difference_microusd: int
    not_priced_then: int

    @classmethod
    def of(cls, effect: PriceEffect) -> PriceEffectBody:
        return cls(
            tier=effect.tier,
            waiting=effect.waiting,
            waiting_cost_microusd=effect.waiting_cost,
            still_waiting=effect.still_waiting,
            rated=effect.rated,
            cost_now_microusd=effect.cost_now,
            cost_then_microusd=effect.cost_then,
            difference_microusd=effect.difference,
            not_priced_then=effect.not_priced_then,
        )


class PricePreviewBody(BaseModel):
    """What a price would change, by tier; nothing was written."""

    provider: str
    model: str
    data: list[PriceEffectBody]


@router.post("/prices/preview", responses=problems(401, 403, 422))
async def preview_price(
    wanted: NewPrice, actions: ServiceActions, staff: BillingStaff
) -> PricePreviewBody:
    """See which entries a price would hold for and what would change, before it is set."""
    since = wanted.effective_from.astimezone(UTC) if wanted.effective_from else None
    effects = await actions.preview_price(
        (wanted.provider, wanted.model),
        wanted.unit_prices(),
        effective_from=since,
        by=staff.identity.user_id,
    )
    return PricePreviewBody(
        provider=wanted.provider,
        model=wanted.model,
        data=[PriceEffectBody.of(effect) for effect in effects],
    )


@router.put(
    "/subscriptions/{holder_id}", responses=problems(401, 403, 422, _404="subscription_not_found")
)
async def grant_subscription(
    holder_id: UUID, wanted: GrantedSubscription, actions: ServiceActions, staff: BillingStaff
) -> SubscriptionBody:
    """Give a user or an organisation a tier, paid for or not."""
    subscription = await actions.grant_subscription(
        UserId(holder_id),
        wanted.tier,
        wanted.seats,
        by=staff.identity.user_id,
        is_organisation=wanted.organisation,
    )
    return SubscriptionBody.of(subscription)


@router.get("/reconciliation", responses=problems(401, 403))
async def reconcile(actions: ServiceActions, _staff: BillingStaff) -> ReconciliationBody:
    """What producers sent against what was recorded, and what waits for somebody."""
    return ReconciliationBody.of(await actions.reconcile())
