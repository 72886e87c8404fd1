"""One transaction in billing's database."""

from __future__ import annotations

from services.billing.storage.archive import SqlLedgerArchive
from services.billing.storage.charges import SqlCharges
from services.billing.storage.completeness import SqlCompleteness
from services.billing.storage.corrections import SqlCorrections
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
from services.billing.storage.subscriptions import SqlSubscriptions
from services.billing.storage.unpriced import SqlUnpricedUsage
from services.billing.storage.upkeep import SqlUpkeep
from shared.db.forgotten import SqlForgottenUsers
from shared.db.unit_of_work import SqlUnitOfWork


class SqlWork(SqlUnitOfWork):
    """Billing's unit of work."""

    service = "billing"
    ledger: SqlLedger
    chain: SqlLedgerChain
    corrections: SqlCorrections
    rollups: SqlRollups
    archive: SqlLedgerArchive
    unpriced: SqlUnpricedUsage
    prices: SqlPrices
    subscriptions: SqlSubscriptions
    plan_prices: SqlPlanPrices
    charges: SqlCharges
    payments: SqlPayments
    completeness: SqlCompleteness
    upkeep: SqlUpkeep
    outside: SqlOutsideUsage
    manifests: SqlManifests
    periods: SqlPeriods
    alerts: SqlLimitAlerts
    effects: SqlPriceEffects
    forgotten: SqlForgottenUsers

    def open_repositories(self) -> None:
        self.ledger = SqlLedger(self.connection)
        self.chain = SqlLedgerChain(self.connection)
        self.corrections = SqlCorrections(self.connection)
        self.rollups = SqlRollups(self.connection)
        self.archive = SqlLedgerArchive(self.connection)
        self.unpriced = SqlUnpricedUsage(self.connection)
        self.prices = SqlPrices(self.connection)
        self.subscriptions = SqlSubscriptions(self.connection)
        self.plan_prices = SqlPlanPrices(self.connection)
        self.charges = SqlCharges(self.connection)
        self.payments = SqlPayments(self.connection)
        self.completeness = SqlCompleteness(self.connection)
        self.upkeep = SqlUpkeep(self.connection)
        self.outside = SqlOutsideUsage(self.connection)
        self.manifests = SqlManifests(self.connection)
        self.periods = SqlPeriods(self.connection)
        self.alerts = SqlLimitAlerts(self.connection)
        self.effects = SqlPriceEffects(self.connection)
        self.forgotten = SqlForgottenUsers(self.connection)
