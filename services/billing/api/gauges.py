"""What Prometheus is told about the ledger: the numbers to alarm on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from prometheus_client import Gauge

from services.billing.actions import Actions
from services.billing.actions.reconcile import Reconciliation
from services.billing.actions.watch_money import Arrived, Waiting
from services.billing.domain.usage_export import Day
from shared.background import repeated, running_beside

_EVERY_SECONDS = 15.0
# Scaling looks at what has come; one short look.
_ARRIVALS_EVERY_SECONDS = 5.0
# It waits for people, and everything that ever waited is looked through.
_AGED_EVERY_SECONDS = 300.0

STRAY_ROWS = Gauge(
    "companion_billing_default_partition_rows",
    "Ledger entries that no month's partition holds, but for old usage from outside; more than "
    "none is a clock far off.",
)
UNPRICED = Gauge("companion_billing_unpriced_requests", "Ledger entries of unknown price.")
DEAD = Gauge("companion_billing_dead_events", "Events put aside and not yet replayed.")
MISSING = Gauge(
    "companion_billing_missing_events",
    "Usage events that a producer has sent and that have not come.",
    ["producer"],
)
SILENCE = Gauge(
    "companion_billing_producer_silence_seconds",
    "How long nothing has come from a producer: an outage must not look like no usage.",
    ["producer"],
)

HELD = Gauge(
    "companion_billing_held_usage_events",
    "What services outside the suite told that can't be counted as it is, by reason.",
    ["code"],
)
MISMATCHED = Gauge(
    "companion_billing_mismatched_hours",
    "Hours of the last five weeks in which the ledger and a producer differ, or that "
    "were not compared yet.",
    ["producer"],
)
SILENT = Gauge(
    "companion_billing_silent_producers",
    "Producers of whom nothing was heard for a minute, not even that nothing was used.",
)

UNLINKED = Gauge(
    "companion_billing_unlinked_records",
    "Records of the ledger that are not in its chain yet: a change of one would go unseen.",
)
UNLINKED_SECONDS = Gauge(
    "companion_billing_oldest_unlinked_seconds", "How long the oldest of them has waited."
)
DRIFTS = Gauge(
    "companion_billing_rollup_drifts",
    "Kept sums that are not what the ledger says and that nobody has repaired (100 at most).",
)

LAST_EXPORTED_DAY = Gauge(
    "companion_billing_last_exported_day_seconds",
    "The end of the newest day that lies at the exports' target, as Unix time; 0 before the first. "
    "It should never be older than a day and some hours.",
)
FAILING_DAYS = Gauge(
    "companion_billing_failing_export_days", "Days that could not be written to the target."
)

RECEIVED = Gauge(
    "companion_ledger_received",
    "Usage events of a producer's stream that have come, dead ones included.",
    ["producer", "stream"],
)
LAG_SECONDS = Gauge(
    "companion_ledger_lag_seconds",
    "How long ago the moment is up to which all usage of a tier is known to be in the ledger.",
    ["tier"],
)
OLDEST_GAP_SECONDS = Gauge(
    "companion_ledger_oldest_gap_seconds",
    "How long the oldest gap in a producer's numbers has been open; 0 without one.",
    ["producer"],
)
WEBHOOKS_DUE = Gauge(
    "companion_billing_webhooks_due", "Deliveries to webhooks that are due and not taken."
)
WEBHOOKS_OLDEST_SECONDS = Gauge(
    "companion_billing_webhooks_oldest_seconds",
    "Age of the oldest delivery that was not taken, between its attempts as well.",
)
WEBHOOKS_GIVEN_UP = Gauge(
    "companion_billing_webhooks_given_up", "Deliveries that were given up within a day."
)
UNFINISHED_INVOICES_SECONDS = Gauge(
    "companion_billing_unfinished_invoices_seconds",
    "How long the making of a month's invoices has been under way; 0 when none is.",
)
ARCHIVE_OVERDUE_SECONDS = Gauge(
    "companion_billing_archive_overdue_seconds",
    "For how long the oldest part of the ledger should have left for a file, by "
    "BILLING_LEDGER_RETENTION_DAYS; 0 when none should, and where nothing leaves.",
)
AGED_USAGE = Gauge(
    "companion_billing_aged_usage_events",
    "Usage that came long after it was used and is on no invoice before two people have said so.",
)
PAST_DUE = Gauge(
    "companion_billing_past_due_subscriptions",
    "Subscriptions whose payment failed and is tried again (1000 at most).",
)


@asynccontextmanager
async def keep_gauges(actions: Actions) -> AsyncIterator[None]:
    """Keep the gauges fresh while the process serves."""
    async with running_beside(
        repeated(partial(_refresh, actions), pause_seconds=_EVERY_SECONDS),
        repeated(partial(_refresh_arrivals, actions), pause_seconds=_ARRIVALS_EVERY_SECONDS),
        repeated(partial(refresh_aged_usage, actions), pause_seconds=_AGED_EVERY_SECONDS),
    ):
        yield


async def _refresh(actions: Actions) -> None:
    show(await actions.reconcile(), datetime.now(UTC))
    show_waiting(await actions.watch_waiting(), datetime.now(UTC))
    show_exports(await actions.show_exported_days())


async def _refresh_arrivals(actions: Actions) -> None:
    show_arrivals(await actions.watch_arrivals())


async def refresh_aged_usage(actions: Actions) -> None:
    """Set that of what waits for two people."""
    AGED_USAGE.set(await actions.count_aged_usage())


def show_arrivals(arrived: Arrived) -> None:
    """Set those of usage on its way."""
    for (producer, stream), events in arrived.received.items():
        RECEIVED.labels(producer, stream).set(events)
    for tier, lag in arrived.lag.items():
        LAG_SECONDS.labels(tier).set(lag.total_seconds())
    for producer, age in arrived.oldest_gap.items():
        OLDEST_GAP_SECONDS.labels(producer).set(age.total_seconds())


def show_waiting(waiting: Waiting, now: datetime) -> None:
    """Set those of what others wait for."""
    webhooks = waiting.webhooks
    WEBHOOKS_DUE.set(webhooks.due)
    WEBHOOKS_OLDEST_SECONDS.set(_seconds_since(webhooks.oldest, now))
    WEBHOOKS_GIVEN_UP.set(webhooks.given_up)
    UNFINISHED_INVOICES_SECONDS.set(_seconds_since(waiting.unfinished_run_since, now))
    PAST_DUE.set(waiting.past_due)
    ARCHIVE_OVERDUE_SECONDS.set(waiting.archive_overdue.total_seconds())


def _seconds_since(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


def show(state: Reconciliation, now: datetime) -> None:
    """Set every gauge."""
    STRAY_ROWS.set(state.stray_rows)
    UNPRICED.set(sum(waiting for _, waiting in state.unpriced))
    DEAD.set(state.dead_events)
    SILENT.set(len(state.silent))
    HELD.clear()
    held: dict[str, int] = {}
    for one in state.held:
        held[one.code] = held.get(one.code, 0) + one.events
    for code, events in held.items():
        HELD.labels(code).set(events)
    for hours in state.hours:
        MISMATCHED.labels(hours.producer).set(hours.mismatched)
    UNLINKED.set(state.chain.waiting)
    UNLINKED_SECONDS.set((now - (state.chain.since or now)).total_seconds())
    DRIFTS.set(len(state.drifts))
    missing: dict[str, int] = {}
    seen: dict[str, datetime] = {}
    for progress in state.progress:
        producer = progress.stream.producer
        missing[producer] = missing.get(producer, 0) + progress.missing_count
        last = progress.last_seen_at or now
        seen[producer] = max(seen.get(producer, last), last)
    for producer, count in missing.items():
        MISSING.labels(producer).set(count)
        SILENCE.labels(producer).set((now - seen[producer]).total_seconds())


def show_exports(exported: tuple[Day | None, int] | None) -> None:
    """Set those of the exports; without a target there is nothing to alarm on."""
    if exported is None:
        return
    last, failing = exported
    LAST_EXPORTED_DAY.set(last.period.ends.timestamp() if last else 0)
    FAILING_DAYS.set(failing)
