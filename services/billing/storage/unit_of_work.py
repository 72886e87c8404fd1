"""One transaction in billing's database."""

from __future__ import annotations

from services.billing.storage.accounts import SqlAccounts
from services.billing.storage.activity import SqlActivity
from services.billing.storage.aged_usage import SqlAgedUsages
from services.billing.storage.analytics import SqlAnalytics
from services.billing.storage.archive import SqlLedgerArchive
from services.billing.storage.billing_details import SqlBillingDetails
from services.billing.storage.charges import SqlCharges
from services.billing.storage.completeness import SqlCompleteness
from services.billing.storage.corrections import SqlCorrections
from services.billing.storage.credit_notes import SqlCreditNotes, SqlUsageFees
from services.billing.storage.dashboard_passes import SqlDashboardPasses
from services.billing.storage.invoice_runs import SqlInvoiceRuns
from services.billing.storage.invoices import SqlInvoices
from services.billing.storage.key_spending import SqlKeySpending
from services.billing.storage.ledger import SqlLedger
from services.billing.storage.ledger_chain import SqlLedgerChain
from services.billing.storage.limit_alerts import SqlLimitAlerts
from services.billing.storage.manifests import SqlManifests
from services.billing.storage.outside_usage import SqlOutsideUsage
from services.billing.storage.payments import SqlPayments
from services.billing.storage.periods import SqlPeriods
from services.billing.storage.plan_prices import SqlPlanPrices
from services.billing.storage.price_effects import SqlPriceEffects
from services.billing.storage.prices import SqlPrices
from services.billing.storage.rollups import SqlRollups
from services.billing.storage.spend_alerts import SqlSpendAlerts
from services.billing.storage.staff_looks import SqlStaffLooks
from services.billing.storage.subscriptions import SqlSubscriptions
from services.billing.storage.unpriced import SqlUnpricedUsage
from services.billing.storage.upkeep import SqlUpkeep
from services.billing.storage.usage_exports import SqlUsageExports
from services.billing.storage.usage_rows import SqlUsageRows
from services.billing.storage.webhook_outbox import SqlWebhookOutbox
from services.billing.storage.webhooks import SqlWebhooks
from shared.db.forgotten import SqlForgottenUsers
from shared.db.unit_of_work import SqlUnitOfWork


class SqlWork(SqlUnitOfWork):
    """Billing's unit of work."""

    service = "billing"
    ledger: SqlLedger
    key_spending: SqlKeySpending
    chain: SqlLedgerChain
    corrections: SqlCorrections
    rollups: SqlRollups
    archive: SqlLedgerArchive
    unpriced: SqlUnpricedUsage
    prices: SqlPrices
    subscriptions: SqlSubscriptions
    plan_prices: SqlPlanPrices
    charges: SqlCharges
    details: SqlBillingDetails
    accounts: SqlAccounts
    payments: SqlPayments
    completeness: SqlCompleteness
    upkeep: SqlUpkeep
    outside: SqlOutsideUsage
    manifests: SqlManifests
    periods: SqlPeriods
    alerts: SqlLimitAlerts
    effects: SqlPriceEffects
    webhooks: SqlWebhooks
    invoices: SqlInvoices
    invoice_runs: SqlInvoiceRuns
    credit_notes: SqlCreditNotes
    usage_fees: SqlUsageFees
    webhook_outbox: SqlWebhookOutbox
    spending: SqlSpendAlerts
    usage_rows: SqlUsageRows
    usage_exports: SqlUsageExports
    forgotten: SqlForgottenUsers
    activity: SqlActivity
    analytics: SqlAnalytics
    dashboard_passes: SqlDashboardPasses
    looks: SqlStaffLooks
    aged: SqlAgedUsages

    def open_repositories(self) -> None:
        self.ledger = SqlLedger(self.connection)
        self.key_spending = SqlKeySpending(self.connection)
        self.chain = SqlLedgerChain(self.connection)
        self.corrections = SqlCorrections(self.connection)
        self.rollups = SqlRollups(self.connection)
        self.archive = SqlLedgerArchive(self.connection)
        self.unpriced = SqlUnpricedUsage(self.connection)
        self.prices = SqlPrices(self.connection)
        self.subscriptions = SqlSubscriptions(self.connection)
        self.plan_prices = SqlPlanPrices(self.connection)
        self.charges = SqlCharges(self.connection)
        self.details = SqlBillingDetails(self.connection)
        self.accounts = SqlAccounts(self.connection)
        self.payments = SqlPayments(self.connection)
        self.completeness = SqlCompleteness(self.connection)
        self.upkeep = SqlUpkeep(self.connection)
        self.outside = SqlOutsideUsage(self.connection)
        self.manifests = SqlManifests(self.connection)
        self.periods = SqlPeriods(self.connection)
        self.alerts = SqlLimitAlerts(self.connection)
        self.effects = SqlPriceEffects(self.connection)
        self.webhooks = SqlWebhooks(self.connection)
        self.invoices = SqlInvoices(self.connection)
        self.invoice_runs = SqlInvoiceRuns(self.connection)
        self.credit_notes = SqlCreditNotes(self.connection)
        self.usage_fees = SqlUsageFees(self.connection)
        self.webhook_outbox = SqlWebhookOutbox(self.connection)
        self.spending = SqlSpendAlerts(self.connection)
        self.usage_rows = SqlUsageRows(self.connection)
        self.usage_exports = SqlUsageExports(self.connection)
        self.forgotten = SqlForgottenUsers(self.connection)
        self.activity = SqlActivity(self.connection)
        self.analytics = SqlAnalytics(self.connection)
        self.dashboard_passes = SqlDashboardPasses(self.connection)
        self.looks = SqlStaffLooks(self.connection)
        self.aged = SqlAgedUsages(self.connection)
