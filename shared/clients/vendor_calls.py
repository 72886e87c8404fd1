"""How calls to vendors end, counted: each vendor has its own error budget, and ours is another."""

from __future__ import annotations

from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING

from prometheus_client import Counter

from shared.errors import ExpectedFailure, Unavailable
from shared.events.base import current_traceparent
from shared.telemetry import tracing
from shared.telemetry.metrics import VENDOR_CALLS

if TYPE_CHECKING:
    from shared.telemetry.spans import Span


class VendorConnectionLost(Exception):
    """The connection to the vendor failed or was cut; `sent` tells whether it may have heard us."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class CountedCall:
    """One call. A class, since it stands around every one.

    `answered`: the vendor took it. `rate_limited`, `refused`, `failed`: its statuses 429, other 4xx
    and 5xx. `lost`: no answer; `cut`: one that broke off. `key_refused`: keyvault let it not
    through. `withheld`: keyvault or the egress is in trouble, or holds all calls back; the vendor
    was not asked. `left`: nobody waited for the answer's head.
    """

    __slots__ = ("_provider", "_service", "_span", "_status")

    def __init__(self, service: str, provider: str) -> None:
        self._service = service
        self._provider = provider
        self._status = 0
        self._span: Span | None = None

    def has_head(self, status: int) -> None:
        """The vendor's own status is here."""
        self._status = status

    @property
    def traceparent(self) -> str:
        """What goes along with the call, so that its part of the trace is known."""
        return current_traceparent.get() or "" if self._span is None else self._span.traceparent

    def __enter__(self) -> CountedCall:
        if tracing.active is not None:
            self._span = tracing.active.begin(
                f"call {self._provider}",
                tracing.Kind.CLIENT,
                within=current_traceparent.get(),
                attributes={"companion.provider": self._provider},
            )
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        outcome = self._outcome(error)
        _counter(self._service, self._provider, outcome).inc()
        if self._span is not None:
            self._span.end(
                attributes={
                    "companion.outcome": outcome,
                    "http.response.status_code": self._status,
                },
                failed=None if outcome == "answered" else outcome,
            )

    def _outcome(self, error: BaseException | None) -> str:
        if self._status == 0:
            return _without_head(error)
        # Some translate it before it comes by here.
        if isinstance(error, VendorConnectionLost) or (
            error is not None and isinstance(error.__cause__, VendorConnectionLost)
        ):
            return "cut"
        return _of_status(self._status)


def _without_head(error: BaseException | None) -> str:
    if isinstance(error, VendorConnectionLost):
        return "lost"
    if isinstance(error, Unavailable):
        return "withheld"
    if isinstance(error, ExpectedFailure):
        return "key_refused"
    return "left"


def _of_status(status: int) -> str:
    if status >= 500:
        return "failed"
    if status == 429:
        return "rate_limited"
    return "refused" if status >= 400 else "answered"


# Looking a label up costs more than counting; few services, vendors and outcomes exist.
@cache
def _counter(service: str, provider: str, outcome: str) -> Counter:
    return VENDOR_CALLS.labels(service, provider, outcome)
