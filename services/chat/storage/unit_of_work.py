"""One transaction in chat's database."""

from __future__ import annotations

from services.chat.storage.known_keys import SqlKnownKeys
from services.chat.storage.preferences import SqlPreferences
from services.chat.storage.sessions import SqlSessions
from services.chat.storage.traces import SqlTraces
from shared.db.forgotten import SqlForgottenUsers
from shared.db.unit_of_work import SqlUnitOfWork


class SqlWork(SqlUnitOfWork):
    """Chat's repositories on one connection."""

    service = "chat"
    sessions: SqlSessions
    known_keys: SqlKnownKeys
    traces: SqlTraces
    preferences: SqlPreferences
    forgotten: SqlForgottenUsers

    def open_repositories(self) -> None:
        self.sessions = SqlSessions(self.connection)
        self.known_keys = SqlKnownKeys(self.connection)
        self.traces = SqlTraces(self.connection)
        self.preferences = SqlPreferences(self.connection)
        self.forgotten = SqlForgottenUsers(self.connection)
