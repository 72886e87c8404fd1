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
