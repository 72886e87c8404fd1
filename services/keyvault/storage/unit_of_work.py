"""The keyvault's unit of work."""

from __future__ import annotations

from services.keyvault.storage.audit import SqlAuditTrail
from services.keyvault.storage.canaries import SqlCanaries
from services.keyvault.storage.data_keys import SqlDataKeys
from services.keyvault.storage.keys import SqlKeys
from shared.db.forgotten import SqlForgottenUsers
from shared.db.unit_of_work import SqlUnitOfWork


class SqlWork(SqlUnitOfWork):
    """One transaction with the keyvault's repositories."""

    service = "keyvault"
    keys: SqlKeys
    data_keys: SqlDataKeys
    audit: SqlAuditTrail
    canaries: SqlCanaries
    forgotten: SqlForgottenUsers

    def open_repositories(self) -> None:
        self.keys = SqlKeys(self.connection)
        self.data_keys = SqlDataKeys(self.connection)
        self.audit = SqlAuditTrail(self.connection)
        self.canaries = SqlCanaries(self.connection)
        self.forgotten = SqlForgottenUsers(self.connection)
