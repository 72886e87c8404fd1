"""Counters and histograms that every service has. Labels come from small, fixed sets."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "companion_http_requests",
    "Requests answered, by route template and status.",
    ["service", "method", "route", "status"],
)
VENDOR_FAILURES = Counter(
    "companion_http_vendor_failures",
    "Requests answered with a 5xx other than 502 because a vendor failed.",
    ["service"],
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
EVENT_WAITS = Counter(
    "companion_event_waits",
    "Batches that could not be handled yet, since a dependency was away; each wait counts.",
    ["service", "type", "reason"],
)
EVENT_BATCH_SECONDS = Histogram(
    "companion_event_batch_seconds",
    "Time from a batch's arrival at a worker to its effects' commit, waits included.",
    ["service", "type"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300),
)
EVENT_AGE_SECONDS = Histogram(
    "companion_event_age_seconds",
    "Age of a batch's oldest event when its effects were committed: the whole way of a fact.",
    ["service", "type", "tier"],
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 21600),
)
# Of children of a worker, which come and go: only those that live count.
WORKER_CHILDREN = Gauge(
    "companion_worker_children",
    "Processes of a worker that handle events.",
    ["service"],
    multiprocess_mode="livesum",
)
JOB_SECONDS = Histogram(
    "companion_job_seconds",
    "Time of one run of a job that the clock starts, failed or not.",
    ["service", "job_name"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 1800),
)
JOB_FAILURES = Counter(
    "companion_job_failures",
    "Runs of a job that failed, by code.",
    ["service", "job_name", "reason"],
)
JOB_DONE_AT = Gauge(
    "companion_job_done_at_seconds",
    "When a job last ran to its end, as Unix time.",
    ["service", "job_name"],
    multiprocess_mode="max",
)
JOB_INTERVAL = Gauge(
    "companion_job_interval_seconds",
    "How long after one run of a job the clock starts the next.",
    ["service", "job_name"],
    multiprocess_mode="max",
)
RELAY_BATCH_SECONDS = Histogram(
    "companion_relay_batch_seconds",
    "Time from the claim of a batch to the note that the broker has it.",
    ["service"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60),
)
RELAY_FAILURES = Counter(
    "companion_relay_failures",
    "Turns of the relay that broker, database or one stuck queue cut short.",
    ["service", "reason"],
)
DEAD_EVENTS = Gauge(
    "companion_dead_events",
    "Events put aside and not yet replayed, counted in the service's database.",
    ["service"],
)
OUTBOX_WAITING = Gauge("companion_outbox_waiting", "Events not yet sent.", ["service", "stream"])
OUTBOX_OLDEST_SECONDS = Gauge(
    "companion_outbox_oldest_seconds",
    "Age of the oldest event not yet sent: the number to alarm on.",
    ["service", "stream"],
)
OUTBOX_WRITTEN = Gauge(
    "companion_outbox_written",
    "Events that were ever committed to a stream of this outbox, sent or not.",
    ["service", "stream"],
)
TIER_SHED = Gauge(
    "companion_tier_shed",
    "1 while a replica refuses new paid calls of a tier whose usage can't be told, else 0.",
    ["service", "tier"],
)
REQUESTS_SHED = Counter(
    "companion_requests_shed",
    "Paid calls that were refused because usage of their tier can't be told.",
    ["service", "tier"],
)
CHAIN_BROKEN = Gauge(
    "companion_chain_broken",
    "1 when the last walk along a chain of hashes has found a change, else 0.",
    ["chain"],
    multiprocess_mode="mostrecent",
)
CHAIN_VERIFIED_AT = Gauge(
    "companion_chain_verified_at_seconds",
    "When a chain of hashes was last walked along, as Unix time.",
    ["chain"],
    multiprocess_mode="mostrecent",
)
VENDOR_CALLS = Counter(
    "companion_vendor_calls",
    "Calls to vendors through the egress, by what became of them.",
    ["service", "provider", "outcome"],
)
DATABASE_CONNECTIONS = Gauge(
    "companion_database_connections",
    "Connections to the service's database that are lent out, and the most that there may be.",
    ["service", "state"],
)
VALKEY_MEMORY = Gauge(
    "companion_valkey_memory_bytes",
    "Memory of Valkey's that counts, and its maxmemory: the most that there may be, 0 if any.",
    ["state"],
)
VALKEY_KEYS = Gauge(
    "companion_valkey_keys",
    "Keys that Valkey has thrown away, since it started, for want of memory.",
    ["state"],
)


class RequestMetrics:
    """The metrics of one service's requests, with the labels that it has met resolved once.

    Looking a label up costs more than counting. How many there are is bounded by what the labels
    may be: methods, route templates and statuses.
    """

    def __init__(self, service: str) -> None:
        self.in_flight = REQUESTS_IN_FLIGHT.labels(service)
        self.open_sockets = OPEN_SOCKETS.labels(service)
        self.vendor_failures = VENDOR_FAILURES.labels(service)
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
