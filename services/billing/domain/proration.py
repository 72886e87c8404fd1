"""An amount divided over time, in whole micro-dollars and with nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

_SECOND = timedelta(seconds=1)


def shares(amount: int, weights: Sequence[int]) -> tuple[int, ...]:
    """The amount in parts as large as their weights, by the largest remainder: what whole
    micro-dollars leave over goes to the parts that were cut most, the first of equals.

    The parts' sum is the amount. No weight is negative, and not all are zero.
    """
    whole = sum(weights)
    parts = [abs(amount) * weight // whole for weight in weights]
    left = abs(amount) - sum(parts)
    cut_most = sorted(range(len(parts)), key=lambda i: -(abs(amount) * weights[i] % whole))
    for index in cut_most[:left]:
        parts[index] += 1
    return tuple(parts) if amount >= 0 else tuple(-part for part in parts)


def rest_of(amount: int, begins: datetime, at: datetime, ends: datetime) -> int:
    """What of a period's amount falls to the time from `at` on.

    The same for a credit as for a debit. So whatever changes within a period, its charges sum to
    the whole amount where the price comes back, and each stretch costs the difference of two rests.
    """
    _used, rest = shares(amount, ((at - begins) // _SECOND, (ends - at) // _SECOND))
    return rest
