"""The keyvault's unit of work."""

from __future__ import annotations

from services.keyvault.storage.audit import SqlAuditTrail
from services.keyvault.storage.canaries import SqlCanaries
from services.keyvault.storage.data_keys import SqlDataKeys
from services.keyvault.storage.keys import SqlKeys
from services.keyvault.storage.organisations import SqlOrganisations
from services.keyvault.storage.rotation import SqlRotation
from services.keyvault.storage.sealed_roots import SqlSealedRoots
from shared.db.forgotten import SqlForgottenUsers
from shared.db.unit_of_work import SqlUnitOfWork


class SqlWork(SqlUnitOfWork):
    """One transaction with the keyvault's repositories."""

    service = "keyvault"
    keys: SqlKeys
    data_keys: SqlDataKeys
    audit: SqlAuditTrail
    canaries: SqlCanaries
    sealed_roots: SqlSealedRoots
    rotation: SqlRotation
    organisations: SqlOrganisations
    forgotten: SqlForgottenUsers

    def open_repositories(self) -> None:
        self.keys = SqlKeys(self.connection)
        self.data_keys = SqlDataKeys(self.connection)
        self.audit = SqlAuditTrail(self.connection)
        self.canaries = SqlCanaries(self.connection)
        self.sealed_roots = SqlSealedRoots(self.connection)
        self.rotation = SqlRotation(self.connection)
        self.organisations = SqlOrganisations(self.connection)
        self.forgotten = SqlForgottenUsers(self.connection)
