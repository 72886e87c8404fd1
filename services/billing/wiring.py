"""Who gets which part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from services.billing.actions import Actions
from services.billing.actions.advance_subscriptions import AdvanceSubscriptions
from services.billing.actions.archive_ledger import ArchiveLedger, VerifyArchive
from services.billing.actions.cancel_subscription import CancelSubscription, ResumeSubscription
from services.billing.actions.change_subscription import ChangeSubscription, GrantSubscription
from services.billing.actions.check_rollups import CheckRollups, RepairDrift
from services.billing.actions.close_period import ClosePeriod, ListPeriods, ShowPeriod
from services.billing.actions.compare_manifests import CompareManifests
from services.billing.actions.correct_usage import ApplyCorrections, CorrectUsage
from services.billing.actions.end_organisation_subscriptions import EndOrganisationSubscriptions
from services.billing.actions.explain_usage import ExplainUsage
from services.billing.actions.export_user import ExportUser
from services.billing.actions.forget_user import ForgetUser
from services.billing.actions.link_ledger import LinkLedger
from services.billing.actions.list_charges import ListCharges
from services.billing.actions.list_past_due import ListPastDue, ListUnusedPayments
from services.billing.actions.list_usage import ExportUsage, ListUsage
from services.billing.actions.note_manifests import NoteManifests
from services.billing.actions.open_portal import OpenPortal
from services.billing.actions.prepare_ledger import PrepareLedger
from services.billing.actions.preview_price import PreviewPrice
from services.billing.actions.rate_unpriced_usage import RateUnpricedUsage
from services.billing.actions.receive_payment_news import (
    CatchUpOnPayments,
    ReceivePaymentNews,
    ReceiveWebhook,
)
from services.billing.actions.reconcile import Reconcile
from services.billing.actions.record_usage import RecordUsage
from services.billing.actions.report_outside_usage import ReportOutsideUsage
from services.billing.actions.report_usage import ReportUsage
from services.billing.actions.request_missing_usage import RequestMissingUsage
from services.billing.actions.rerate_usage import RerateUsage
from services.billing.actions.set_plan_price import SetPlanPrice, ShowPlanPrices
from services.billing.actions.set_price import SetPrice
from services.billing.actions.settle_payment import MarkPaid
from services.billing.actions.show_limits import ShowLimits
from services.billing.actions.show_organisation_subscription import ShowOrganisationSubscription
from services.billing.actions.show_subscription import ShowSubscription
from services.billing.actions.tell_limits import TellLimits
from services.billing.actions.tell_payers import TellPayers
from services.billing.actions.verify_ledger import ShowLedger, VerifyLedger
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.ports import (
    LimitCounters,
    NewUnitOfWork,
    Organisations,
    Payments,
)
from services.billing.domain.price_book import ListPrices
from services.billing.providers.list_prices import PublicPrices
from services.billing.providers.manual import ManualPayments, SandboxPayments
from services.billing.providers.parquet_archive import ParquetArchive
from services.billing.providers.stripe import StripeAccount, open_stripe
from services.billing.settings import Settings
from services.billing.storage.limit_counters import ValkeyLimitCounters
from services.billing.storage.unit_of_work import SqlWork
from shared.clients.auth import open_auth
from shared.clock import Clock, SystemClock
from shared.db.database import Database, open_database
from shared.http.app import Check
from shared.identity import ServiceIdentity
from shared.limits.admission import open_cache
from shared.settings import service_database_url


@dataclass(frozen=True, slots=True)
class Wired:
    """Billing, put together."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]


@asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Wired]:
    """Open what billing needs and put it together; close it afterwards."""
    url = service_database_url(settings.database_url.get_secret_value(), "billing")
    cache = open_cache(settings.cache_url.get_secret_value())
    me = ServiceIdentity.from_file("billing", settings.identity_key_file)
    async with (
        open_database(
            url, connections=settings.database_connections, application="billing"
        ) as database,
        open_auth(settings.auth_internal_url, me) as organisations,
        open_payments(settings) as payments,
    ):
        try:
            yield Wired(
                actions=put_together(
                    lambda: SqlWork(database),
                    list_prices=PublicPrices(),
                    counters=ValkeyLimitCounters(cache),
                    organisations=organisations,
                    payments=payments,
                    clock=SystemClock(),
                    settings=settings,
                ),
                database=database,
                # Not the cache: without it only the limits can't be shown, and they say so.
                checks={"database": database.check},
            )
        finally:
            await cache.aclose()


def put_together(
    unit_of_work: NewUnitOfWork,
    *,
    list_prices: ListPrices,
    counters: LimitCounters,
    organisations: Organisations,
    clock: Clock,
    settings: Settings,
    payments: Payments | None = None,
) -> Actions:
    """The verbs over these ports; without `payments` nobody is reached over a network for them."""
    payments = payments or _payments_by_hand(settings)
    rules = rules_of(settings)
    receive = ReceivePaymentNews(unit_of_work, clock, payments, rules)
    list_usage = ListUsage(unit_of_work)
    export_usage = ExportUsage(list_usage)
    show_subscription = ShowSubscription(unit_of_work)
    patience = timedelta(seconds=settings.gap_patience_seconds)
    days, folder = settings.ledger_retention_days, settings.ledger_archive_dir
    retention = None if days is None else timedelta(days=days)
    files = None if folder is None else ParquetArchive(folder)
    return Actions(
        record_usage=RecordUsage(unit_of_work, list_prices),
        note_manifests=NoteManifests(unit_of_work),
        request_missing_usage=RequestMissingUsage(unit_of_work, clock, patience),
        rate_unpriced_usage=RateUnpricedUsage(unit_of_work, list_prices, clock),
        prepare_ledger=PrepareLedger(unit_of_work, clock, in_days=retention is not None),
        link_ledger=LinkLedger(unit_of_work),
        verify_ledger=VerifyLedger(unit_of_work),
        show_ledger=ShowLedger(unit_of_work),
        correct_usage=CorrectUsage(unit_of_work, clock),
        apply_corrections=ApplyCorrections(unit_of_work, clock),
        check_rollups=CheckRollups(unit_of_work, clock),
        repair_drift=RepairDrift(unit_of_work, clock),
        archive_ledger=ArchiveLedger(unit_of_work, files, clock, retention),
        verify_archive=VerifyArchive(unit_of_work, files),
        report_usage=ReportUsage(unit_of_work, clock),
        list_usage=list_usage,
        export_usage=export_usage,
        explain_usage=ExplainUsage(unit_of_work),
        show_limits=ShowLimits(show_subscription, counters, unit_of_work, clock),
        show_subscription=show_subscription,
        change_subscription=ChangeSubscription(unit_of_work, clock, organisations, payments, rules),
        grant_subscription=GrantSubscription(unit_of_work, clock, rules),
        cancel_subscription=CancelSubscription(unit_of_work, clock, organisations, rules),
        resume_subscription=ResumeSubscription(unit_of_work, clock, organisations, rules),
        advance_subscriptions=AdvanceSubscriptions(unit_of_work, clock, payments, rules),
        mark_paid=MarkPaid(unit_of_work, clock, rules),
        receive_webhook=ReceiveWebhook(payments, receive),
        catch_up_on_payments=CatchUpOnPayments(unit_of_work, clock, payments, receive),
        tell_payers=TellPayers(unit_of_work, payments),
        open_portal=OpenPortal(unit_of_work, organisations, payments),
        list_charges=ListCharges(unit_of_work, organisations),
        list_past_due=ListPastDue(unit_of_work),
        list_unused_payments=ListUnusedPayments(unit_of_work),
        set_plan_price=SetPlanPrice(unit_of_work, clock),
        show_plan_prices=ShowPlanPrices(unit_of_work, clock),
        show_organisation_subscription=ShowOrganisationSubscription(unit_of_work, organisations),
        end_organisation_subscriptions=EndOrganisationSubscriptions(unit_of_work, clock),
        set_price=SetPrice(unit_of_work, clock),
        preview_price=PreviewPrice(unit_of_work, clock),
        rerate_usage=RerateUsage(unit_of_work, clock),
        report_outside_usage=ReportOutsideUsage(unit_of_work, list_prices, clock),
        compare_manifests=CompareManifests(unit_of_work),
        tell_limits=TellLimits(unit_of_work, clock),
        close_period=ClosePeriod(unit_of_work, clock),
        show_period=ShowPeriod(unit_of_work),
        list_periods=ListPeriods(unit_of_work),
        reconcile=Reconcile(unit_of_work, clock),
        forget_user=ForgetUser(unit_of_work, clock),
        export_user=ExportUser(unit_of_work, show_subscription, export_usage),
    )


def rules_of(settings: Settings) -> Rules:
    """What the operator decided about trials and about payments that do not come."""
    days = sorted({int(day) for day in settings.dunning_days.split(",")} - {0})
    return Rules(
        retries_after=tuple(timedelta(days=day) for day in days),
        grace=timedelta(days=settings.grace_days),
        trial=timedelta(days=settings.trial_days) if settings.trial_days else None,
    )


@asynccontextmanager
async def open_payments(settings: Settings) -> AsyncIterator[Payments]:
    """Stripe where it is set up; in a sandbox nobody pays."""
    key, secrets = settings.stripe_api_key, settings.stripe_webhook_secrets
    if settings.sandbox or key is None or secrets is None:
        yield _payments_by_hand(settings)
        return
    account = StripeAccount(
        api_key=key.get_secret_value(),
        webhook_secrets=tuple(
            secret.strip() for secret in secrets.get_secret_value().split(",") if secret.strip()
        ),
        prices=settings.stripe_prices,
        return_url=settings.stripe_return_url or "",
        api_base=settings.stripe_api_base.rstrip("/"),
    )
    async with open_stripe(account) as stripe:
        yield stripe


def _payments_by_hand(settings: Settings) -> Payments:
    return SandboxPayments() if settings.sandbox else ManualPayments()
