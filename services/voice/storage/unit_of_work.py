"""One transaction in voice's database, for what is not on the hot path."""

from __future__ import annotations

from services.voice.storage.traces import SqlTraces
from shared.db.forgotten import SqlForgottenUsers
from shared.db.unit_of_work import SqlUnitOfWork


class SqlWork(SqlUnitOfWork):
    """Voice's repositories on one connection."""

    service = "voice"
    traces: SqlTraces
    forgotten: SqlForgottenUsers

    def open_repositories(self) -> None:
        self.traces = SqlTraces(self.connection)
        self.forgotten = SqlForgottenUsers(self.connection)
