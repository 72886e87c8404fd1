"""Who gets which part."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from services.billing.actions import (
    Actions,
    AnalyticsActions,
    ExportActions,
    InvoiceActions,
    LedgerActions,
    PaymentActions,
    PriceActions,
    SubscriptionActions,
    UsageActions,
    UserActions,
    WebhookActions,
)
from services.billing.actions.advance_subscriptions import AdvanceSubscriptions
from services.billing.actions.analyse import Analyse
from services.billing.actions.archive_ledger import ArchiveLedger, VerifyArchive
from services.billing.actions.ask_for_export import (
    AskForExport,
    FetchExport,
    ListExports,
    ShowExport,
)
from services.billing.actions.book_payment import BookPayment
from services.billing.actions.cancel_subscription import CancelSubscription, ResumeSubscription
from services.billing.actions.change_subscription import ChangeSubscription, GrantSubscription
from services.billing.actions.check_rollups import CheckRollups, RepairDrift
from services.billing.actions.close_period import ClosePeriod, ListPeriods, ShowPeriod
from services.billing.actions.compare_manifests import CompareManifests
from services.billing.actions.correct_usage import ApplyCorrections, CorrectUsage
from services.billing.actions.decide_aged_usage import (
    ApproveAgedUsage,
    CountAgedUsage,
    ListAgedUsage,
    RefuseAgedUsage,
)
from services.billing.actions.decide_held_usage import ListHeldUsage, RefuseHeldUsage
from services.billing.actions.deliver_webhooks import DeliverWebhooks
from services.billing.actions.derive_activity import DeriveActivity, NoteNewUsers
from services.billing.actions.drop_left_details import DropLeftDetails
from services.billing.actions.end_organisation_subscriptions import EndOrganisationSubscriptions
from services.billing.actions.explain_usage import ExplainUsage
from services.billing.actions.export_days import ExportDays, ShowExportedDays
from services.billing.actions.export_records import ExportOwnUsage, Formats, ReadRows
from services.billing.actions.export_user import ExportUser
from services.billing.actions.forget_user import ForgetUser
from services.billing.actions.issue_credit_note import IssueCreditNote
from services.billing.actions.keep_billing_details import (
    KeepBillingDetails,
    ShowBillingDetails,
)
from services.billing.actions.keep_export_queue import KeepExportQueue
from services.billing.actions.keep_webhooks import KeepWebhooks, WebhookAccess
from services.billing.actions.link_ledger import LinkLedger
from services.billing.actions.list_charges import ListCharges
from services.billing.actions.list_past_due import ListPastDue
from services.billing.actions.list_payments import (
    ListPayments,
    ListUnpaidOrders,
    ListUnusedPayments,
)
from services.billing.actions.list_usage import ExportUsage, ListUsage
from services.billing.actions.make_invoices import MakeInvoices
from services.billing.actions.mark_paid import MarkPaid
from services.billing.actions.note_manifests import NoteManifests
from services.billing.actions.note_staff_look import ListStaffLooks, NoteStaffLook
from services.billing.actions.open_dashboard import OpenDashboard
from services.billing.actions.open_portal import OpenPortal
from services.billing.actions.prepare_ledger import PrepareLedger
from services.billing.actions.preview_invoice import PreviewInvoice
from services.billing.actions.preview_price import PreviewPrice
from services.billing.actions.rate_unpriced_usage import RateUnpricedUsage
from services.billing.actions.receive_payment_news import (
    CatchUpOnPayments,
    ReceivePaymentDelivery,
    ReceivePaymentNews,
)
from services.billing.actions.reconcile import Reconcile
from services.billing.actions.record_usage import RecordUsage
from services.billing.actions.redeliver_webhooks import RedeliverWebhooks
from services.billing.actions.report_organisation_usage import ReportOrganisationUsage
from services.billing.actions.report_outside_usage import ReportOutsideUsage
from services.billing.actions.report_usage import ReportUsage
from services.billing.actions.request_missing_usage import RequestMissingUsage
from services.billing.actions.rerate_usage import RerateUsage
from services.billing.actions.set_plan_price import SetPlanPrice, ShowPlanPrices
from services.billing.actions.set_price import ListPriceOverrides, SetPrice
from services.billing.actions.set_usage_fee import ListUsageFees, SetUsageFee
from services.billing.actions.show_balance import ShowBalance
from services.billing.actions.show_invoice import (
    ListInvoices,
    PrintInvoice,
    ShowCreditNotes,
    ShowInvoice,
)
from services.billing.actions.show_limits import ShowLimits
from services.billing.actions.show_organisation_subscription import ShowOrganisationSubscription
from services.billing.actions.show_subscription import ShowSubscription
from services.billing.actions.tell_limits import TellLimits
from services.billing.actions.tell_payers import TellPayers
from services.billing.actions.tell_spending import ChooseAlerts, TellSpending
from services.billing.actions.verify_invoice import VerifyInvoice
from services.billing.actions.verify_ledger import ShowLedger, VerifyLedger
from services.billing.actions.verify_periods import VerifyPeriods
from services.billing.actions.watch_money import WatchArrivals, WatchWaiting
from services.billing.domain.billing_cycle import Rules
from services.billing.domain.export_ports import ExportTarget
from services.billing.domain.export_target import check_target
from services.billing.domain.invoice_renderer import InvoiceRenderer
from services.billing.domain.invoicing import Terms
from services.billing.domain.ports import (
    LimitCounters,
    NewUnitOfWork,
    Organisations,
    Payments,
)
from services.billing.domain.price_book import ListPrices
from services.billing.domain.tax import TaxRules
from services.billing.domain.usage_export import FormatName
from services.billing.providers.archived_rows import ArchivedUsage
from services.billing.providers.export_formats import CsvFormat, NdjsonFormat, ParquetFormat
from services.billing.providers.export_queue import BrokersExportQueue
from services.billing.providers.export_target import open_target
from services.billing.providers.invoice_pdf import PdfFonts
from services.billing.providers.invoice_renderer import DocumentRenderer
from services.billing.providers.list_prices import PublicPrices
from services.billing.providers.manual import ManualPayments, SandboxPayments
from services.billing.providers.parquet_archive import ParquetArchive
from services.billing.providers.stripe import StripeAccount, open_stripe
from services.billing.providers.tax import NoTax, TaxTable
from services.billing.providers.webhook_delivery import HttpWebhookSender
from services.billing.providers.webhook_secrets import SealedSecrets
from services.billing.settings import Settings
from services.billing.storage.limit_counters import ValkeyLimitCounters
from services.billing.storage.unit_of_work import SqlWork
from shared.background import running_beside
from shared.clients.auth import open_auth
from shared.clock import Clock, SystemClock
from shared.db.database import Database, open_database
from shared.http.readiness import Check
from shared.identity import ServiceIdentity
from shared.settings import service_database_url
from shared.valkey import open_cache
from shared.values import dataclass


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
    me = ServiceIdentity.of_setting("billing", settings.identity_key_file)
    async with (
        open_database(
            url, connections=settings.database_connections, application="billing"
        ) as database,
        open_auth(settings.auth_internal_url, me) as organisations,
        open_payments(settings) as payments,
    ):
        try:
            yield Wired(
                actions=build_actions(
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


@asynccontextmanager
async def wire_web(settings: Settings) -> AsyncIterator[Wired]:
    """A replica that answers requests: it also shows its gauges, and delivers webhooks."""
    # Here and not above: a worker opens no doors, and would show gauges that it never sets.
    from services.billing.api.gauges import keep_gauges
    from services.billing.api.webhook_pump import WebhookPump

    async with (
        wire(settings) as wired,
        keep_gauges(wired.actions),
        running_beside(WebhookPump(wired.actions.deliver_webhooks).run()),
    ):
        yield wired


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the verbs of more than one topic are made of."""

    work: NewUnitOfWork
    list_prices: ListPrices
    counters: LimitCounters
    organisations: Organisations
    payments: Payments
    tax: TaxRules
    clock: Clock


def build_actions(
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
    tax = tax_rules_of(settings)
    parts = _Parts(unit_of_work, list_prices, counters, organisations, payments, tax, clock)
    subscriptions = _subscription_actions(settings, parts)
    usage = _usage_actions(settings, parts, subscriptions.show_subscription)
    files = _archive(settings)
    exports = _export_actions(settings, parts, usage.list_usage, files)
    users = UserActions(
        forget_user=ForgetUser(unit_of_work, clock, rules_of(settings)),
        export_user=ExportUser(unit_of_work, subscriptions.show_subscription, exports.export_usage),
    )
    return Actions(
        **vars(usage),
        **vars(_ledger_actions(settings, parts, files)),
        **vars(exports),
        **vars(_analytics_actions(settings, parts)),
        **vars(_price_actions(parts)),
        **vars(subscriptions),
        **vars(_payment_actions(settings, parts)),
        **vars(_invoice_actions(settings, parts)),
        **vars(_webhook_actions(settings, parts)),
        **vars(users),
    )


def _usage_actions(
    settings: Settings, parts: _Parts, show_subscription: ShowSubscription
) -> UsageActions:
    work, clock = parts.work, parts.clock
    patience = timedelta(seconds=settings.gap_patience_seconds)
    return UsageActions(
        record_usage=RecordUsage(work, parts.list_prices),
        note_manifests=NoteManifests(work),
        request_missing_usage=RequestMissingUsage(work, clock, patience),
        compare_manifests=CompareManifests(work),
        rate_unpriced_usage=RateUnpricedUsage(work, parts.list_prices, clock),
        report_outside_usage=ReportOutsideUsage(work, parts.list_prices, clock),
        list_held_usage=ListHeldUsage(work),
        refuse_held_usage=RefuseHeldUsage(work),
        report_usage=ReportUsage(work, LinkLedger(work), clock),
        report_organisation_usage=ReportOrganisationUsage(work, parts.organisations, clock),
        list_usage=ListUsage(work),
        explain_usage=ExplainUsage(work),
        show_limits=ShowLimits(show_subscription, parts.counters, work, clock),
        tell_limits=TellLimits(work, clock),
        tell_spending=TellSpending(work, clock),
        choose_alerts=ChooseAlerts(work, clock),
    )


def _ledger_actions(
    settings: Settings, parts: _Parts, files: ParquetArchive | None
) -> LedgerActions:
    work, clock, days = parts.work, parts.clock, settings.ledger_retention_days
    retention = None if days is None else timedelta(days=days)
    return LedgerActions(
        prepare_ledger=PrepareLedger(work, clock, in_days=retention is not None),
        link_ledger=LinkLedger(work),
        verify_ledger=VerifyLedger(work),
        show_ledger=ShowLedger(work),
        correct_usage=CorrectUsage(work, clock),
        apply_corrections=ApplyCorrections(work, clock),
        check_rollups=CheckRollups(work, clock),
        repair_drift=RepairDrift(work, clock),
        close_period=ClosePeriod(work, clock),
        show_period=ShowPeriod(work),
        list_periods=ListPeriods(work),
        verify_periods=VerifyPeriods(work),
        reconcile=Reconcile(work, clock),
        watch_arrivals=WatchArrivals(work, clock),
        watch_waiting=WatchWaiting(work, clock, retention),
        archive_ledger=ArchiveLedger(work, files, clock, retention),
        verify_archive=VerifyArchive(work, files),
    )


def _export_actions(
    settings: Settings, parts: _Parts, list_usage: ListUsage, files: ParquetArchive | None
) -> ExportActions:
    work, clock = parts.work, parts.clock
    export_usage = ExportUsage(list_usage)
    rows = ReadRows(work, None if files is None else ArchivedUsage(files))
    target = _export_target(settings)
    return ExportActions(
        export_usage=export_usage,
        export_own_usage=ExportOwnUsage(work, export_usage, FORMATS),
        ask_for_export=AskForExport(work, clock),
        list_exports=ListExports(work),
        show_export=ShowExport(work),
        fetch_export=FetchExport(rows, FORMATS),
        export_days=ExportDays(work, rows, target, FORMATS, formats_of(settings), clock),
        show_exported_days=ShowExportedDays(work, target),
        keep_export_queue=KeepExportQueue(_export_queue(settings)),
    )


def _analytics_actions(settings: Settings, parts: _Parts) -> AnalyticsActions:
    work, clock = parts.work, parts.clock
    return AnalyticsActions(
        derive_activity=DeriveActivity(work),
        note_new_users=NoteNewUsers(work),
        analyse=Analyse(work, clock, settings.request_cost_microusd),
        open_dashboard=OpenDashboard(work, clock),
    )


def _price_actions(parts: _Parts) -> PriceActions:
    work, clock = parts.work, parts.clock
    return PriceActions(
        set_price=SetPrice(work, clock),
        list_price_overrides=ListPriceOverrides(work),
        preview_price=PreviewPrice(work, clock),
        rerate_usage=RerateUsage(work, clock),
        set_plan_price=SetPlanPrice(work, clock),
        show_plan_prices=ShowPlanPrices(work, clock),
        set_usage_fee=SetUsageFee(work, clock),
        list_usage_fees=ListUsageFees(work),
    )


def _subscription_actions(settings: Settings, parts: _Parts) -> SubscriptionActions:
    work, clock, organisations = parts.work, parts.clock, parts.organisations
    rules, tax_rules = rules_of(settings), parts.tax
    return SubscriptionActions(
        show_subscription=ShowSubscription(work),
        change_subscription=ChangeSubscription(
            work, clock, organisations, parts.payments, rules, tax_rules
        ),
        grant_subscription=GrantSubscription(work, clock, rules),
        cancel_subscription=CancelSubscription(work, clock, organisations, rules),
        resume_subscription=ResumeSubscription(work, clock, organisations, rules),
        advance_subscriptions=AdvanceSubscriptions(work, clock, parts.payments, rules),
        show_organisation_subscription=ShowOrganisationSubscription(work, organisations),
        end_organisation_subscriptions=EndOrganisationSubscriptions(work, clock, rules),
    )


def _payment_actions(settings: Settings, parts: _Parts) -> PaymentActions:
    work, clock, organisations = parts.work, parts.clock, parts.organisations
    payments, rules, tax_rules = parts.payments, rules_of(settings), parts.tax
    receive = ReceivePaymentNews(work, clock, rules)
    return PaymentActions(
        mark_paid=MarkPaid(work, clock, rules, tax_rules),
        book_payment=BookPayment(work, clock),
        receive_payment_delivery=ReceivePaymentDelivery(payments, receive),
        catch_up_on_payments=CatchUpOnPayments(work, clock, payments, receive),
        tell_payers=TellPayers(work, clock, payments),
        open_portal=OpenPortal(work, organisations, payments),
        list_charges=ListCharges(work, organisations),
        show_balance=ShowBalance(work, organisations),
        note_staff_look=NoteStaffLook(work, clock),
        list_staff_looks=ListStaffLooks(work, organisations),
        list_past_due=ListPastDue(work, tax_rules),
        list_payments=ListPayments(work),
        list_unpaid_orders=ListUnpaidOrders(work, tax_rules),
        list_unused_payments=ListUnusedPayments(work),
        show_billing_details=ShowBillingDetails(work, organisations),
        keep_billing_details=KeepBillingDetails(work, organisations, clock),
        drop_left_details=DropLeftDetails(work, clock),
    )


def _invoice_actions(settings: Settings, parts: _Parts) -> InvoiceActions:
    work, clock, organisations = parts.work, parts.clock, parts.organisations
    terms = terms_of(settings, parts.tax)
    return InvoiceActions(
        make_invoices=MakeInvoices(work, clock, terms),
        preview_invoice=PreviewInvoice(work, terms),
        list_invoices=ListInvoices(work, organisations),
        show_invoice=ShowInvoice(work, organisations),
        print_invoice=PrintInvoice(renderer_of(settings)),
        verify_invoice=VerifyInvoice(work),
        list_aged_usage=ListAgedUsage(work, terms.aged_after),
        count_aged_usage=CountAgedUsage(work, terms.aged_after),
        approve_aged_usage=ApproveAgedUsage(work, clock, terms.aged_after),
        refuse_aged_usage=RefuseAgedUsage(work, clock, terms.aged_after),
        issue_credit_note=IssueCreditNote(work, clock, terms),
        show_credit_notes=ShowCreditNotes(work, organisations),
    )


def _webhook_actions(settings: Settings, parts: _Parts) -> WebhookActions:
    work, clock = parts.work, parts.clock
    webhooks = WebhookAccess(work, parts.organisations)
    seal = SealedSecrets(settings.webhook_keys_file)
    sender = HttpWebhookSender(allow_local=settings.tells_local_webhooks)
    return WebhookActions(
        keep_webhooks=KeepWebhooks(webhooks, work, clock, seal, sender),
        redeliver_webhooks=RedeliverWebhooks(webhooks, work, clock),
        deliver_webhooks=DeliverWebhooks(work, clock, sender, seal, random.random),
    )


def _archive(settings: Settings) -> ParquetArchive | None:
    folder = settings.ledger_archive_dir
    return None if folder is None else ParquetArchive(folder)


FORMATS: Formats = {"csv": CsvFormat(), "ndjson": NdjsonFormat(), "parquet": ParquetFormat()}


def formats_of(settings: Settings) -> list[FormatName]:
    """The formats that days are exported in, each once."""
    chosen = settings.export_formats.split(",")
    return [name for name in FORMATS if name in chosen]


def _export_target(settings: Settings) -> ExportTarget | None:
    url = settings.export_target
    return None if url is None else open_target(check_target(url))


def _export_queue(settings: Settings) -> BrokersExportQueue:
    return BrokersExportQueue(
        settings.broker_url.get_secret_value(),
        wanted=settings.export_queue,
        most_messages=settings.export_queue_most_messages,
    )


def tax_rules_of(settings: Settings) -> TaxRules:
    """The operator's table, or none."""
    return TaxTable.from_file(settings.tax_file) if settings.tax_file else NoTax()


def renderer_of(settings: Settings) -> InvoiceRenderer:
    """With the operator's name and fonts on documents."""
    files = [Path(name.strip()) for name in settings.font_files.split(",") if name.strip()]
    return DocumentRenderer([one.seller for one in settings.sellers], PdfFonts(files))


def terms_of(settings: Settings, tax: TaxRules) -> Terms:
    """How the operator makes out invoices."""
    due_after = timedelta(days=settings.invoice_due_days)
    days = settings.aged_usage_days
    aged_after = timedelta(days=days) if days else None
    return Terms(settings.invoice_prefix, due_after, tax, aged_after)


def rules_of(settings: Settings) -> Rules:
    """What the operator decided about trials and about payments that do not come."""
    days = sorted({int(day) for day in settings.dunning_days.split(",")} - {0})
    return Rules(
        retries_after=tuple(timedelta(days=day) for day in days),
        grace=timedelta(days=settings.grace_days),
        trial=timedelta(days=settings.trial_days) if settings.trial_days else None,
        trial_seats=settings.trial_seats,
        order_stands=timedelta(days=settings.order_days),
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
