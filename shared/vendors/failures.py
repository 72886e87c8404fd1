"""How a vendor lets a call down, in words that all services share."""

from __future__ import annotations

from datetime import timedelta

from shared.errors import Conflict, UpstreamFailed


class NoUsableKey(Conflict):
    """The user has stored no key for this vendor, or the vendor refuses the one they stored.

    A conflict with what is stored, which its user can mend: never a 401, since that would be about
    our own token, and no failure of the vendor.
    """

    code = "no_usable_key"


class VendorFailed(UpstreamFailed):
    """The vendor did not answer, or its answer was cut. `billed` tells whether it may charge."""

    code = "vendor_failed"
    billed = True

    def __init__(self, provider: str, *, billed: bool = True) -> None:
        super().__init__(f"{provider} did not finish its answer.", provider=provider)
        self.billed = billed


class VendorRefused(UpstreamFailed):
    """The vendor declined before doing any work; nothing was used. `again` is what the vendor
    itself says of another try; None when it says nothing."""

    code = "vendor_refused"
    billed = False

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        retry_after: timedelta | None = None,
        again: bool | None = None,
    ) -> None:
        super().__init__(message, provider=provider, retry_after=retry_after)
        self.again = again


class VendorRateLimited(VendorRefused):
    """The vendor's own rate limit for the user's key."""

    code = "vendor_rate_limited"


class VendorOverloaded(VendorRefused):
    """The vendor is in trouble."""

    code = "vendor_overloaded"


class VendorQuotaExhausted(VendorRefused):
    """The user's credit or spending limit at the vendor is used up; trying again does not help."""

    code = "vendor_quota_exhausted"


class VendorPlanRequired(VendorRefused):
    """The user's plan at the vendor does not include this; a larger plan there would."""

    code = "vendor_plan_required"


def may_be_charged(failure: Exception) -> bool:
    """Whether the vendor may charge for the call that failed."""
    return isinstance(failure, VendorFailed) and failure.billed
