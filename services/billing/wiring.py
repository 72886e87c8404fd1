"""Who gets which part."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.billing.actions import Actions
from services.billing.actions.advance_subscriptions import AdvanceSubscriptions
from services.billing.actions.analyse import Analyse
from services.billing.actions.archive_ledger import ArchiveLedger, VerifyArchive
from services.billing.actions.ask_for_export import (
    AskForExport,
    FetchExport,
    ListExports,
    ShowExport,
)
from services.billing.actions.cancel_subscription import CancelSubscription, ResumeSubscription
from services.billing.actions.change_subscription import ChangeSubscription, GrantSubscription
from services.billing.actions.check_rollups import CheckRollups, RepairDrift
from services.billing.actions.close_period import ClosePeriod, ListPeriods, ShowPeriod
from services.billing.actions.compare_manifests import CompareManifests
from services.billing.actions.correct_usage import ApplyCorrections, CorrectUsage
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
from services.billing.actions.list_past_due import ListPastDue, ListUnusedPayments
from services.billing.actions.list_usage import ExportUsage, ListUsage
from services.billing.actions.make_invoices import MakeInvoices
from services.billing.actions.note_manifests import NoteManifests
from services.billing.actions.open_dashboard import OpenDashboard
from services.billing.actions.open_portal import OpenPortal
from services.billing.actions.prepare_ledger import PrepareLedger
from services.billing.actions.preview_invoice import PreviewInvoice
from services.billing.actions.preview_price import PreviewPrice
from services.billing.actions.rate_unpriced_usage import RateUnpricedUsage
from services.billing.actions.receive_payment_news import (
    CatchUpOnPayments,
    ReceivePaymentNews,
    ReceiveWebhook,
)
from services.billing.actions.reconcile import Reconcile
from services.billing.actions.record_usage import RecordUsage
from services.billing.actions.redeliver_webhooks import RedeliverWebhooks
from services.billing.actions.report_outside_usage import ReportOutsideUsage
from services.billing.actions.report_usage import ReportUsage
from services.billing.actions.request_missing_usage import RequestMissingUsage
from services.billing.actions.rerate_usage import RerateUsage
from services.billing.actions.set_plan_price import SetPlanPrice, ShowPlanPrices
from services.billing.actions.set_price import SetPrice
from services.billing.actions.set_usage_fee import ListUsageFees, SetUsageFee
from services.billing.actions.settle_payment import MarkPaid
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
from shared.clients.auth import open_auth
from shared.clock import Clock, SystemClock
from shared.db.database import Database, open_database
from shared.http.readiness import Check
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
    terms = terms_of(settings)
    receive = ReceivePaymentNews(unit_of_work, clock, payments, rules)
    list_usage = ListUsage(unit_of_work)
    export_usage = ExportUsage(list_usage)
    show_subscription = ShowSubscription(unit_of_work)
    patience = timedelta(seconds=settings.gap_patience_seconds)
    webhooks = WebhookAccess(unit_of_work, organisations)
    seal = SealedSecrets(settings.webhook_keys_file)
    sender = HttpWebhookSender(allow_local=settings.tells_local_webhooks)
    days, folder = settings.ledger_retention_days, settings.ledger_archive_dir
    retention = None if days is None else timedelta(days=days)
    files = None if folder is None else ParquetArchive(folder)
    rows = ReadRows(unit_of_work, None if files is None else ArchivedUsage(files))
    target = _export_target(settings)
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
        derive_activity=DeriveActivity(unit_of_work),
        note_new_users=NoteNewUsers(unit_of_work),
        analyse=Analyse(unit_of_work, clock, settings.request_cost_microusd),
        open_dashboard=OpenDashboard(unit_of_work, clock),
        report_usage=ReportUsage(unit_of_work, clock),
        list_usage=list_usage,
        export_usage=export_usage,
        export_own_usage=ExportOwnUsage(unit_of_work, export_usage, FORMATS),
        ask_for_export=AskForExport(unit_of_work, clock),
        list_exports=ListExports(unit_of_work),
        show_export=ShowExport(unit_of_work),
        fetch_export=FetchExport(rows, FORMATS),
        export_days=ExportDays(unit_of_work, rows, target, FORMATS, formats_of(settings), clock),
        show_exported_days=ShowExportedDays(unit_of_work, target),
        keep_export_queue=KeepExportQueue(_export_queue(settings)),
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
        show_billing_details=ShowBillingDetails(unit_of_work, organisations),
        keep_billing_details=KeepBillingDetails(unit_of_work, organisations, clock),
        show_balance=ShowBalance(unit_of_work, organisations),
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
        tell_spending=TellSpending(unit_of_work, clock),
        choose_alerts=ChooseAlerts(unit_of_work, clock),
        keep_webhooks=KeepWebhooks(webhooks, unit_of_work, clock, seal, sender),
        redeliver_webhooks=RedeliverWebhooks(webhooks, unit_of_work, clock),
        deliver_webhooks=DeliverWebhooks(unit_of_work, clock, sender, seal, random.random),
        close_period=ClosePeriod(unit_of_work, clock),
        show_period=ShowPeriod(unit_of_work),
        list_periods=ListPeriods(unit_of_work),
        reconcile=Reconcile(unit_of_work, clock),
        watch_arrivals=WatchArrivals(unit_of_work, clock),
        watch_waiting=WatchWaiting(unit_of_work, clock),
        forget_user=ForgetUser(unit_of_work, clock),
        drop_left_details=DropLeftDetails(unit_of_work, clock),
        make_invoices=MakeInvoices(unit_of_work, clock, terms),
        preview_invoice=PreviewInvoice(unit_of_work, clock, terms),
        list_invoices=ListInvoices(unit_of_work, organisations),
        show_invoice=ShowInvoice(unit_of_work, organisations),
        print_invoice=PrintInvoice(renderer_of(settings)),
        verify_invoice=VerifyInvoice(unit_of_work),
        issue_credit_note=IssueCreditNote(unit_of_work, clock, terms),
        show_credit_notes=ShowCreditNotes(unit_of_work, organisations),
        set_usage_fee=SetUsageFee(unit_of_work, clock),
        list_usage_fees=ListUsageFees(unit_of_work),
        export_user=ExportUser(unit_of_work, show_subscription, export_usage),
    )


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


def terms_of(settings: Settings) -> Terms:
    """How the operator makes out invoices."""
    due_after = timedelta(days=settings.invoice_due_days)
    return Terms(settings.invoice_prefix, due_after, tax_rules_of(settings))


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
