"""Families of expected failure: how the outside should react, a stable code, and the facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from shared.limit_state import LimitState


class ExpectedFailure(Exception):
    """A failure that we foresaw; doors translate it, they never log it as a bug.

    `code` is a promise to clients: stable, snake_case, unique across the suite. `facts` reach the
    client beside the message, so they hold no secret and no text that a user did not write.
    `limits`: the windows in which its request was counted, for the headers of the answer.
    """

    code: ClassVar[str]
    retryable: ClassVar[bool] = False
    limits: Sequence[LimitState] = ()

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts: Mapping[str, Any] = facts


F = TypeVar("F", bound=ExpectedFailure)


def after_counting(failure: F, limits: Sequence[LimitState]) -> F:
    """The failure of a request that was let in before: its answer tells the windows, too."""
    failure.limits = failure.limits or limits
    return failure


class Invalid(ExpectedFailure):
    """The request can't be understood or breaks a rule that its sender can read about."""

    code = "invalid"


class UnstorableText(Invalid):
    """A text with NUL in it, which PostgreSQL's can't hold. `field`: where it stands, where that is
    known."""

    code = "unstorable_text"

    def __init__(self, field: str | None = None) -> None:
        super().__init__(
            "A text holds a character that can't be stored (NUL).",
            **({"field": field} if field is not None else {}),
        )


def require_storable(field: str, text: str | None) -> None:
    """Raises UnstorableText: of what will be stored, before anything is done for it."""
    if text is not None and "\0" in text:
        raise UnstorableText(field)


class TooLarge(ExpectedFailure):
    """The request is larger than this door accepts."""

    code = "too_large"


class Unauthenticated(ExpectedFailure):
    """The credential is proven bad or absent; never used when *we* could not check it."""

    code = "unauthenticated"


class SessionEnded(Unauthenticated):
    """The token is genuine, but its session was ended: signed out, revoked, or account gone."""

    code = "session_ended"

    def __init__(self) -> None:
        super().__init__("This session has ended. Sign in again.")


class NotInTier(ExpectedFailure):
    """The user's tier does not include this; a larger one does."""

    code = "not_in_tier"


class PaymentRequired(ExpectedFailure):
    """This costs money, and nobody has paid for it yet."""

    code = "payment_required"


class Forbidden(ExpectedFailure):
    """We know who asks, and they may not."""

    code = "forbidden"


class NotFound(ExpectedFailure):
    """No such thing, or another user's: both look the same, so that ids can't be probed."""

    code = "not_found"


class Conflict(ExpectedFailure):
    """The thing's present state does not allow this."""

    code = "conflict"


class LimitReached(ExpectedFailure):
    """A limit of the user's tier holds; `retry_after` says when to come back, and `limits` have
    every window that was asked."""

    code = "limit_reached"

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta,
        limits: Sequence[LimitState] = (),
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.retry_after = retry_after
        self.limits = limits


class UpstreamFailed(ExpectedFailure):
    """A vendor answered with a failure or not at all."""

    code = "upstream_failed"

    def __init__(self, message: str, *, retry_after: timedelta | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after = retry_after


class Unavailable(ExpectedFailure):
    """*We* are in trouble (a dependency is gone or slow); trying again later makes sense."""

    code = "unavailable"
    retryable = True

    def __init__(
        self, message: str, *, retry_after: timedelta | None = timedelta(seconds=2), **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.retry_after = retry_after


class DependencyUnavailable(Unavailable):
    """A named dependency of ours does not answer. `did_nothing`: as is known, of what it was asked
    last; else it may yet do it."""

    code = "dependency_unavailable"

    def __init__(
        self,
        dependency: str,
        *,
        retry_after: timedelta = timedelta(seconds=2),
        did_nothing: bool = False,
    ) -> None:
        super().__init__(
            f"The service can't reach its {dependency} at the moment.",
            retry_after=retry_after,
            dependency=dependency,
        )
        self.did_nothing = did_nothing
