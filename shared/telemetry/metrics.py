"""Counters and histograms that every service has. Labels come from small, fixed sets."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "companion_http_requests",
    "Requests answered, by route template and status.",
    ["service", "method", "route", "status"],
)
REQUEST_SECONDS = Histogram(
    "companion_http_request_seconds",
    "Time from a request's head to the end of its answer.",
    ["service", "route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60),
)
REQUESTS_IN_FLIGHT = Gauge(
    "companion_http_requests_in_flight", "Requests being answered.", ["service"]
)
OPEN_SOCKETS = Gauge("companion_open_sockets", "WebSockets that are open.", ["service"])
EVENTS_SENT = Counter(
    "companion_events_sent", "Events that the broker has confirmed.", ["service", "stream"]
)
EVENTS_HANDLED = Counter(
    "companion_events_handled", "Events whose handler has committed.", ["service", "type"]
)
EVENTS_DEAD = Counter(
    "companion_events_dead", "Events put aside as dead.", ["service", "type", "reason"]
)
OUTBOX_WAITING = Gauge("companion_outbox_waiting", "Events not yet sent.", ["service", "stream"])
OUTBOX_OLDEST_SECONDS = Gauge(
    "companion_outbox_oldest_seconds",
    "Age of the oldest event not yet sent: the number to alarm on.",
    ["service", "stream"],
)


class RequestMetrics:
    """The three metrics of one service's requests, with the labels that it has met resolved once.

    Looking a label up costs more than counting. How many there are is bounded by what the labels
    may be: methods, route templates and statuses.
    """

    def __init__(self, service: str) -> None:
        self.in_flight = REQUESTS_IN_FLIGHT.labels(service)
        self.open_sockets = OPEN_SOCKETS.labels(service)
        self._service = service
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = self._known.get((method, route, status))
        if known is None:
            known = self._known[method, route, status] = (
                REQUESTS.labels(self._service, method, route, str(status)),
                REQUEST_SECONDS.labels(self._service, route),
            )
        requests, durations = known
        requests.inc()
        durations.observe(seconds)
