"""One transaction on auth's database, with its repositories."""

from __future__ import annotations

from typing import ClassVar

from services.auth.storage.login_failures import SqlLoginFailures
from services.auth.storage.sign_ins import SqlSignIns
from services.auth.storage.users import SqlUsers
from shared.db.unit_of_work import SqlUnitOfWork


class SqlWork(SqlUnitOfWork):
    """The unit of work of auth."""

    service: ClassVar[str] = "auth"

    users: SqlUsers
    sign_ins: SqlSignIns
    login_failures: SqlLoginFailures

    def open_repositories(self) -> None:
        self.users = SqlUsers(self.connection)
        self.sign_ins = SqlSignIns(self.connection)
        self.login_failures = SqlLoginFailures(self.connection)
