"""Work that billing gives itself by the clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import structlog

from services.billing.actions import Actions
from services.billing.domain.errors import ExportQueueUnavailable
from services.billing.domain.ledger_chain import chain_name
from services.billing.tasks import listen
from shared.telemetry.metrics import CHAIN_BROKEN, CHAIN_VERIFIED_AT

log = structlog.get_logger(__name__)


@listen.every(timedelta(seconds=10))
async def request_missing_usage(actions: Actions) -> None:
    """Ask producers for what did not come."""
    requests = await actions.request_missing_usage()
    if requests:
        log.warning("usage_is_missing", requests=requests)


@listen.every(timedelta(minutes=1))
async def compare_manifests(actions: Actions) -> None:
    """Compare the hours that producers told of with the ledger."""
    differing = await actions.compare_manifests()
    if differing:
        log.error("usage_hours_differ", hours=differing)


@listen.every(timedelta(seconds=30))
async def watch_producers(actions: Actions) -> None:
    """Nothing used is told too; from whom nothing at all is heard is broken."""
    state = await actions.reconcile()
    for producer in state.silent:
        log.error("producer_is_silent", producer=producer, since=str(state.last_heard[producer]))


@listen.every(timedelta(minutes=1))
async def rerate_usage(actions: Actions) -> None:
    """Correct what was rated by another price than the one that is to hold for it."""
    corrected = await actions.rerate_usage()
    if corrected:
        log.info("usage_rated_anew", entries=corrected)


@listen.every(timedelta(minutes=1))
async def tell_limits(actions: Actions) -> None:
    """Tell users that a limit is near, or reached."""
    told = await actions.tell_limits()
    if told:
        log.info("limits_told", users=told)


@listen.every(timedelta(minutes=1))
async def tell_spending(actions: Actions) -> None:
    """Tell users that their spending has come to a threshold of theirs."""
    told = await actions.tell_spending()
    if told:
        log.info("spending_told", users=told)


@listen.every(timedelta(hours=1))
async def drop_left_details(actions: Actions) -> None:
    """The names and addresses of those who are gone and have their last invoice."""
    dropped = await actions.drop_left_details()
    if dropped:
        log.info("details_of_who_left_dropped", holders=dropped)


@listen.every(timedelta(hours=1))
async def forget_webhook_deliveries(actions: Actions) -> None:
    """What was delivered or given up long ago."""
    await actions.deliver_webhooks.forget()


@listen.every(timedelta(minutes=1))
async def rate_unpriced_usage(actions: Actions) -> None:
    """Rate what waited for a price that there is now."""
    rated = await actions.rate_unpriced_usage()
    if rated:
        log.info("usage_rated_later", entries=rated)


@listen.every(timedelta(hours=1))
async def prepare_ledger(actions: Actions) -> None:
    """Make room for the months to come."""
    stray = await actions.prepare_ledger()
    if stray:
        # Some producer's clock is far off; the entries count, but no month holds them.
        log.error("ledger_has_stray_rows", rows=stray)


@listen.every(timedelta(seconds=5))
async def forget_users(actions: Actions) -> None:
    """Go on forgetting deleted users of whom something was left."""
    await actions.forget_user.go_on()


@listen.every(timedelta(minutes=5))
async def watch_forgotten_users(actions: Actions) -> None:
    """Erase what has come late of users who were forgotten."""
    await actions.forget_user.watch()


@listen.every(timedelta(seconds=2))
async def link_ledger(actions: Actions) -> None:
    """Take what is new up into the ledger's chains: until then a change of it would go unseen."""
    await actions.link_ledger()


@listen.every(timedelta(hours=6))
async def verify_ledger(actions: Actions) -> None:
    """Walk the latest chains, and look at the digests of closed months; `companion ledger verify`
    walks all chains and counts the months."""
    verdicts = await actions.verify_ledger.lately(datetime.now(UTC))
    broken = [verdict.broken for verdict in verdicts if verdict.broken is not None]
    for one in broken:
        log.error("ledger_chain_is_broken", chain=chain_name(one.chain), reason=one.what)
    changed = await actions.verify_periods.changed()
    for period in changed:
        log.error("closed_month_was_changed", month=period.month.name)
    CHAIN_BROKEN.labels("ledger").set(bool(broken or changed))
    CHAIN_VERIFIED_AT.labels("ledger").set(time.time())


@listen.every(timedelta(minutes=1))
async def derive_activity(actions: Actions) -> None:
    """Bring the rollups of the analytics up to the ledger's chains."""
    await actions.derive_activity()


@listen.every(timedelta(minutes=10))
async def check_rollups(actions: Actions) -> None:
    """Work the sums out again, once a night."""
    check = await actions.check_rollups.nightly()
    if check is not None and check.drifts:
        log.error("rollups_have_drifted", drifts=check.drifts, compared=check.compared)


@listen.every(timedelta(minutes=1))
async def make_invoices(actions: Actions) -> None:
    """Make the invoices of a month that was closed, and go on with those that were begun."""
    run = await actions.make_invoices.next_one(within=timedelta(seconds=50))
    if run is not None:
        log.info("invoices_made", month=run.month.name, invoices=run.invoices, left=run.left)


@listen.every(timedelta(hours=1))
async def archive_ledger(actions: Actions) -> None:
    """Old partitions into files, where the operator wants that."""
    await actions.archive_ledger()


@listen.every(timedelta(seconds=30))
async def advance_subscriptions(actions: Actions) -> None:
    """Renew periods, apply what was planned for their end, dun, and end trials."""
    moved = await actions.advance_subscriptions()
    if moved:
        log.info("subscriptions_advanced", subscriptions=moved)


@listen.every(timedelta(minutes=1))
async def tell_payers(actions: Actions) -> None:
    """Let the payment provider collect for what is held."""
    await actions.tell_payers()


@listen.every(timedelta(minutes=1))
async def catch_up_on_payments(actions: Actions) -> None:
    """Find payments whose news were lost."""
    found = await actions.catch_up_on_payments()
    if found:
        log.warning("payment_news_were_lost", events=found)


@listen.every(timedelta(minutes=5))
async def export_days(actions: Actions) -> None:
    """Days that are over into files, where the operator wants that."""
    await actions.export_days()


@listen.every(timedelta(minutes=1))
async def keep_export_queue(actions: Actions) -> None:
    """A copy of what was used for who reads the export queue, within its limit."""
    try:
        await actions.keep_export_queue()
    except ExportQueueUnavailable as failure:
        log.warning("export_queue_not_kept", code=failure.code)
