"""One transaction in billing's database."""

from __future__ import annotations

from services.billing.storage.completeness import SqlCompleteness
from services.billing.storage.ledger import SqlLedger
from services.billing.storage.prices import SqlPrices
from services.billing.storage.subscriptions import SqlSubscriptions
from services.billing.storage.unpriced import SqlUnpricedUsage
from services.billing.storage.upkeep import SqlUpkeep
from shared.db.forgotten import SqlForgottenUsers
from shared.db.unit_of_work import SqlUnitOfWork


class SqlWork(SqlUnitOfWork):
    """Billing's unit of work."""

    service = "billing"
    ledger: SqlLedger
    unpriced: SqlUnpricedUsage
    prices: SqlPrices
    subscriptions: SqlSubscriptions
    completeness: SqlCompleteness
    upkeep: SqlUpkeep
    forgotten: SqlForgottenUsers

    def open_repositories(self) -> None:
        self.ledger = SqlLedger(self.connection)
        self.unpriced = SqlUnpricedUsage(self.connection)
        self.prices = SqlPrices(self.connection)
        self.subscriptions = SqlSubscriptions(self.connection)
        self.completeness = SqlCompleteness(self.connection)
        self.upkeep = SqlUpkeep(self.connection)
        self.forgotten = SqlForgottenUsers(self.connection)
