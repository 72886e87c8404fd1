"""`/billing/admin/adjustments` and `/billing/admin/repairs`: what the billing team puts right."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from services.billing.api.dependencies import (
    REPLAYED,
    BillingStaff,
    ServiceActions,
)
from services.billing.domain.correction import Correction, Deltas
from services.billing.domain.rollup import Drift, RollupCheck
from shared.events.usage import MOST_UNITS
from shared.http.dollars import DollarsBeside
from shared.http.idempotency_key import RequiredIdempotencyKey
from shared.http.problems import problems
from shared.ids import EventId

router = APIRouter(prefix="/billing/admin", tags=["billing team"])

Delta = Annotated[int, Field(0, ge=-MOST_UNITS, le=MOST_UNITS, strict=True)]
Money = Annotated[int, Field(0, ge=-(2**62), le=2**62, strict=True)]
Reason = Annotated[
    str,
    Field(
        min_length=1,
        max_length=300,
        description="Stays in the books for good: name nobody in it.",
    ),
]


class _Deltas(BaseModel):
    """What is added to an entry's numbers; negative for what is taken away."""

    input_tokens: Delta
    cache_read_tokens: Delta
    cache_write_tokens: Delta
    output_tokens: Delta
    output_reasoning_tokens: Delta
    characters: Delta
    cost_microusd: Money


class DeltasBody(_Deltas, DollarsBeside):
    """What was added to an entry's numbers; negative for what was taken away."""


class NewDeltas(_Deltas):
    """What to add; a name that is not known is refused, so that nothing is dropped unseen."""

    model_config = ConfigDict(extra="forbid")

    def deltas(self) -> Deltas:
        return Deltas(**self.model_dump())


class NewAdjustment(BaseModel):
    """A correction of one entry: `void` takes all of it away, `deltas` change its numbers."""

    model_config = ConfigDict(extra="forbid")

    event_id: UUID
    reason: Reason
    deltas: NewDeltas | None = Field(None, description="Without them the entry is voided.")


class CorrectionBody(BaseModel):
    """A correction as it stands in the ledger."""

    id: UUID
    event_id: UUID
    kind: str
    requests: int
    deltas: DeltasBody
    reason: str
    source: str
    made_by: UUID | None
    made_at: datetime

    @classmethod
    def of(cls, correction: Correction) -> CorrectionBody:
        return cls(
            id=correction.id,
            event_id=correction.event_id,
            kind=correction.kind,
            requests=correction.requests,
            deltas=deltas_body(correction.deltas),
            reason=correction.reason,
            source=correction.source,
            made_by=correction.made_by,
            made_at=correction.made_at,
        )


class DriftBody(BaseModel):
    """Kept sums of one hour or day that are not what the ledger says; numbers by their names."""

    id: int
    rollup: str
    user_id: UUID
    begins: datetime
    provider: str
    model: str
    operation: str
    sandbox: bool
    kept: dict[str, int]
    due: dict[str, int]
    found_at: datetime
    repaired_at: datetime | None

    @classmethod
    def of(cls, drift: Drift) -> DriftBody:
        return cls(
            id=drift.id,
            rollup=drift.rollup,
            user_id=drift.user_id,
            begins=drift.begins,
            provider=drift.provider,
            model=drift.model,
            operation=drift.operation,
            sandbox=drift.sandbox,
            kept=dict(drift.kept),
            due=dict(drift.due),
            found_at=drift.found_at,
            repaired_at=drift.repaired_at,
        )


class RollupCheckBody(BaseModel):
    """The last time that all closed hours and days were worked out again."""

    checked_at: datetime
    up_to: datetime
    compared: int
    drifts: int

    @classmethod
    def of(cls, check: RollupCheck | None) -> RollupCheckBody | None:
        if check is None:
            return None
        return cls(
            checked_at=check.checked_at,
            up_to=check.up_to,
            compared=check.compared,
            drifts=check.drifts,
        )


class NewRepair(BaseModel):
    """Put the sums of one drift right."""

    model_config = ConfigDict(extra="forbid")

    drift_id: int = Field(ge=1, lt=2**63, strict=True)
    reason: Reason


def deltas_body(deltas: Deltas) -> DeltasBody:
    """Deltas as they are shown."""
    return DeltasBody(
        input_tokens=deltas.input_tokens,
        cache_read_tokens=deltas.cache_read_tokens,
        cache_write_tokens=deltas.cache_write_tokens,
        output_tokens=deltas.output_tokens,
        output_reasoning_tokens=deltas.output_reasoning_tokens,
        characters=deltas.characters,
        cost_microusd=deltas.cost_microusd,
    )


@router.post(
    "/adjustments",
    status_code=201,
    responses=problems(
        401,
        403,
        404,
        422,
        _409="usage_voided_already, usage_not_priced, adjustment_key_reused",
    ),
)
async def correct_usage(
    wanted: NewAdjustment,
    actions: ServiceActions,
    staff: BillingStaff,
    idempotency_key: RequiredIdempotencyKey,
    response: Response,
) -> CorrectionBody:
    """Void an entry, or add to its numbers and take from them, in a row of its own. The same key
    again answers with the same correction."""
    correction, is_known = await actions.correct_usage.once(
        EventId(wanted.event_id),
        wanted.deltas.deltas() if wanted.deltas else None,
        reason=wanted.reason,
        by=staff.identity.user_id,
        key=idempotency_key,
    )
    if is_known:
        response.headers.update(REPLAYED)
    return CorrectionBody.of(correction)


@router.post("/repairs", status_code=201, responses=problems(401, 403, 404, 422))
async def repair_drift(
    wanted: NewRepair, actions: ServiceActions, staff: BillingStaff
) -> DriftBody:
    """Make the kept sums what the ledger says; who did so and why stays with the drift."""
    drift = await actions.repair_drift(
        wanted.drift_id, reason=wanted.reason, by=staff.identity.user_id
    )
    return DriftBody.of(drift)
