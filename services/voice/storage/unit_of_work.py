"""One transaction in voice's database, for what is not on the hot path."""

from __future__ import annotations

from services.voice.storage.clones import SqlClones
from services.voice.storage.kept_speeches import SqlKeptSpeechesOfUser
from services.voice.storage.own_settings import SqlOwnSettings
from services.voice.storage.traces import SqlTraces
from shared.db.forgotten import SqlForgottenUsers
from shared.db.unit_of_work import SqlUnitOfWork


class SqlWork(SqlUnitOfWork):
    """Voice's repositories on one connection."""

    service = "voice"
    traces: SqlTraces
    own_settings: SqlOwnSettings
    clones: SqlClones
    kept_speeches: SqlKeptSpeechesOfUser
    forgotten: SqlForgottenUsers

    def open_repositories(self) -> None:
        self.traces = SqlTraces(self.connection)
        self.own_settings = SqlOwnSettings(self.connection)
        self.clones = SqlClones(self.connection)
        self.kept_speeches = SqlKeptSpeechesOfUser(self.connection)
        self.forgotten = SqlForgottenUsers(self.connection)
