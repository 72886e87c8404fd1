"""When another attempt at a vendor makes sense, and when another vendor may be asked."""

from __future__ import annotations

from datetime import timedelta

from services.chat.domain.errors import ModelUnavailable, VendorRejectedRequest
from shared.errors import ExpectedFailure, UpstreamFailed
from shared.values import dataclass
from shared.vendors.failures import (
    NoUsableKey,
    VendorFailed,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)

# These are the same a second later, whatever the vendor says of trying again.
_LASTING = (VendorQuotaExhausted, VendorPlanRequired, VendorRejectedRequest, ModelUnavailable)
_PASSING = (VendorRateLimited, VendorOverloaded)


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """How much a turn may try before its first content. The numbers are those of the vendors' own
    SDKs; `budget` bounds the waiting, so that nobody waits for the sake of waiting."""

    most_retries: int = 2  # at each provider
    budget: timedelta = timedelta(seconds=30)
    first_wait: timedelta = timedelta(milliseconds=500)
    longest_wait: timedelta = timedelta(seconds=8)
    jitter: float = 0.25

    def wait_before(self, retry: int, failure: ExpectedFailure, luck: float) -> timedelta:
        """How long to wait before the retry of that number, from 0: what the vendor asks for, else
        twice as long each time, and up to a quarter less by `luck` (0 to 1), so that those who were
        refused together don't come back together."""
        asked = failure.retry_after if isinstance(failure, UpstreamFailed) else None
        if asked is not None:
            return asked
        wait = min(self.first_wait * (1 << retry), self.longest_wait)
        return wait * (1 - self.jitter * luck)


def may_retry(failure: ExpectedFailure) -> bool:
    """Whether the same provider may be asked again: when it has done no work, and the reason may
    have passed."""
    if isinstance(failure, VendorFailed):
        return not failure.billed
    if not isinstance(failure, VendorRefused) or isinstance(failure, _LASTING):
        return False
    return isinstance(failure, _PASSING) if failure.again is None else failure.again


def may_fall_back(failure: ExpectedFailure) -> bool:
    """Whether another provider may answer instead. What *we* refuse it would be refused too, and a
    request that one does not accept is its sender's to mend."""
    if isinstance(failure, VendorRefused):
        return not isinstance(failure, VendorRejectedRequest)
    return isinstance(failure, VendorFailed | NoUsableKey)
