"""What ran on an organisation's keys, summed up for those who decide about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from enum import StrEnum
from uuid import UUID

from services.billing.domain.errors import BadPeriod
from services.billing.domain.period import Period
from services.billing.domain.usage_report import Sums
from shared.values import dataclass

LONGEST = timedelta(days=100)  # a quarter, and the days around it

Key = str | date | UUID


class KeyDimension(StrEnum):
    """What it can be grouped by; `member` is whoever called, also who has left since."""

    MEMBER = "member"
    DAY = "day"
    PROVIDER = "provider"
    MODEL = "model"
    OPERATION = "operation"


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """The sums of one combination of what was grouped by, with a key for each."""

    keys: tuple[Key, ...]
    sums: Sums


@dataclass(frozen=True, slots=True)
class KeySpending:
    """A page of groups in the order of their keys, and the sums of all of them together."""

    groups: Sequence[KeyGroup]
    totals: Sums


@dataclass(frozen=True, slots=True)
class OrganisationUsage:
    """That of a period of whole hours."""

    period: Period
    spending: KeySpending


def ensure_short(period: Period) -> None:
    """Raises BadPeriod: every call in it is added up when somebody asks."""
    if period.ends - period.begins > LONGEST:
        raise BadPeriod(f"A report on an organisation's keys covers {LONGEST.days} days at most.")
