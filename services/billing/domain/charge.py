"""What is charged for a subscription: lines that are written once and never changed."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import NewType
from uuid import UUID

from shared.ids import UserId
from shared.values import dataclass

ChargeId = NewType("ChargeId", UUID)


class ChargeKind(Enum):
    """Why something is charged."""

    PERIOD_FEE = "period_fee"
    PRORATION_DEBIT = "proration_debit"  # the rest of a period at the new terms
    PRORATION_CREDIT = "proration_credit"  # the rest of it at the old ones, given back
    WRITE_OFF = "write_off"  # a period that was never paid for


@dataclass(frozen=True, slots=True)
class Charge:
    """One line: an amount (a credit is negative) for tier and seats over a span of time.

    `effect_key` names the effect that it stands for: the database takes each once.
    """

    id: ChargeId
    holder: UserId
    is_organisation: bool
    kind: ChargeKind
    tier_name: str
    seats: int
    unit_price_microusd: int
    price_version: str
    begins: datetime
    ends: datetime
    amount_microusd: int
    effect_key: str
    revision: int
    charged_at: datetime
