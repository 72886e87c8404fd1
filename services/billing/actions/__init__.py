"""Verbs of billing: the table of contents of what it can do."""

from __future__ import annotations

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
from services.billing.actions.export_records import ExportOwnUsage
from services.billing.actions.export_user import ExportUser
from services.billing.actions.forget_user import ForgetUser
from services.billing.actions.issue_credit_note import IssueCreditNote
from services.billing.actions.keep_billing_details import (
    KeepBillingDetails,
    ShowBillingDetails,
)
from services.billing.actions.keep_export_queue import KeepExportQueue
from services.billing.actions.keep_webhooks import KeepWebhooks
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
from services.billing.actions.receive_payment_news import CatchUpOnPayments, ReceivePaymentDelivery
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
from shared.values import dataclass


@dataclass(frozen=True)
class UsageActions:
    """Usage as it comes in, what it counts towards, and how it is shown."""

    record_usage: RecordUsage
    note_manifests: NoteManifests
    request_missing_usage: RequestMissingUsage
    compare_manifests: CompareManifests
    rate_unpriced_usage: RateUnpricedUsage
    report_outside_usage: ReportOutsideUsage
    list_held_usage: ListHeldUsage
    refuse_held_usage: RefuseHeldUsage
    report_usage: ReportUsage
    report_organisation_usage: ReportOrganisationUsage
    list_usage: ListUsage
    explain_usage: ExplainUsage
    show_limits: ShowLimits
    tell_limits: TellLimits
    tell_spending: TellSpending
    choose_alerts: ChooseAlerts


@dataclass(frozen=True)
class LedgerActions:
    """The ledger: kept, linked, proven, corrected, closed by periods, and put away."""

    prepare_ledger: PrepareLedger
    link_ledger: LinkLedger
    verify_ledger: VerifyLedger
    show_ledger: ShowLedger
    correct_usage: CorrectUsage
    apply_corrections: ApplyCorrections
    check_rollups: CheckRollups
    repair_drift: RepairDrift
    close_period: ClosePeriod
    show_period: ShowPeriod
    list_periods: ListPeriods
    verify_periods: VerifyPeriods
    reconcile: Reconcile
    watch_arrivals: WatchArrivals
    watch_waiting: WatchWaiting
    archive_ledger: ArchiveLedger
    verify_archive: VerifyArchive


@dataclass(frozen=True)
class ExportActions:
    """Usage in files and queues, for users and for the operator."""

    export_usage: ExportUsage
    export_own_usage: ExportOwnUsage
    ask_for_export: AskForExport
    list_exports: ListExports
    show_export: ShowExport
    fetch_export: FetchExport
    export_days: ExportDays
    show_exported_days: ShowExportedDays
    keep_export_queue: KeepExportQueue


@dataclass(frozen=True)
class AnalyticsActions:
    """What the operator reads out of it all."""

    derive_activity: DeriveActivity
    note_new_users: NoteNewUsers
    analyse: Analyse
    open_dashboard: OpenDashboard


@dataclass(frozen=True)
class PriceActions:
    """What a use costs, and a plan."""

    set_price: SetPrice
    list_price_overrides: ListPriceOverrides
    preview_price: PreviewPrice
    rerate_usage: RerateUsage
    set_plan_price: SetPlanPrice
    show_plan_prices: ShowPlanPrices
    set_usage_fee: SetUsageFee
    list_usage_fees: ListUsageFees


@dataclass(frozen=True)
class SubscriptionActions:
    """Subscriptions of users and of organisations."""

    show_subscription: ShowSubscription
    change_subscription: ChangeSubscription
    grant_subscription: GrantSubscription
    cancel_subscription: CancelSubscription
    resume_subscription: ResumeSubscription
    advance_subscriptions: AdvanceSubscriptions
    show_organisation_subscription: ShowOrganisationSubscription
    end_organisation_subscriptions: EndOrganisationSubscriptions


@dataclass(frozen=True)
class PaymentActions:
    """Payments: asked for, received, booked; and who pays."""

    mark_paid: MarkPaid
    book_payment: BookPayment
    receive_payment_delivery: ReceivePaymentDelivery
    catch_up_on_payments: CatchUpOnPayments
    tell_payers: TellPayers
    open_portal: OpenPortal
    list_charges: ListCharges
    show_balance: ShowBalance
    note_staff_look: NoteStaffLook
    list_staff_looks: ListStaffLooks
    list_past_due: ListPastDue
    list_payments: ListPayments
    list_unpaid_orders: ListUnpaidOrders
    list_unused_payments: ListUnusedPayments
    show_billing_details: ShowBillingDetails
    keep_billing_details: KeepBillingDetails
    drop_left_details: DropLeftDetails


@dataclass(frozen=True)
class InvoiceActions:
    """Invoices and credit notes."""

    make_invoices: MakeInvoices
    preview_invoice: PreviewInvoice
    list_invoices: ListInvoices
    show_invoice: ShowInvoice
    print_invoice: PrintInvoice
    verify_invoice: VerifyInvoice
    list_aged_usage: ListAgedUsage
    count_aged_usage: CountAgedUsage
    approve_aged_usage: ApproveAgedUsage
    refuse_aged_usage: RefuseAgedUsage
    issue_credit_note: IssueCreditNote
    show_credit_notes: ShowCreditNotes


@dataclass(frozen=True)
class WebhookActions:
    """What customers' own systems are told."""

    keep_webhooks: KeepWebhooks
    redeliver_webhooks: RedeliverWebhooks
    deliver_webhooks: DeliverWebhooks


@dataclass(frozen=True)
class UserActions:
    """What is kept of a user."""

    forget_user: ForgetUser
    export_user: ExportUser


@dataclass(frozen=True)
class Actions(
    UsageActions,
    LedgerActions,
    ExportActions,
    AnalyticsActions,
    PriceActions,
    SubscriptionActions,
    PaymentActions,
    InvoiceActions,
    WebhookActions,
    UserActions,
):
    """Everything billing can do."""
