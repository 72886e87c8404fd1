"""One transaction on auth's database, with its repositories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import ClassVar
from uuid import UUID

import structlog

from services.auth.domain.ports import SigningKeySource
from services.auth.storage.audit import SqlAudit
from services.auth.storage.audit_chain import SqlAuditChain
from services.auth.storage.ended_credentials import SqlEndedCredentials, ended_among
from services.auth.storage.erasures import SqlErasures
from services.auth.storage.login_failures import SqlLoginFailures
from services.auth.storage.mailed_proofs import SqlMailedProofs
from services.auth.storage.mails import SqlMails
from services.auth.storage.oauth import SqlAuthorizationCodes, SqlOAuthClients
from services.auth.storage.organisations import SqlInvitations, SqlMembers, SqlOrganisations
from services.auth.storage.personal_tokens import SqlPersonalTokens
from services.auth.storage.second_factors import SqlSecondFactors
from services.auth.storage.sign_ins import SqlSignIns
from services.auth.storage.users import SqlUsers, effective_tiers
from shared.db.database import Database
from shared.db.unit_of_work import SqlUnitOfWork
from shared.errors import Unavailable
from shared.ids import UserId
from shared.limits.current_tiers import CurrentTiers
from shared.news.ended_sessions import EndedSessions
from shared.tiers import NO_TIER
from shared.values import dataclass

log = structlog.get_logger(__name__)

# Each further one means that somebody changed it once more meanwhile.
_MOST_TELLINGS = 5


@dataclass(frozen=True, slots=True)
class News:
    """Where everybody is told at once what can't wait until an access token expires."""

    ended_sessions: EndedSessions
    current_tiers: CurrentTiers


class SqlWork(SqlUnitOfWork):
    """The unit of work of auth. What has ended or has another tier is told after the commit."""

    service: ClassVar[str] = "auth"

    users: SqlUsers
    sign_ins: SqlSignIns
    login_failures: SqlLoginFailures
    second_factors: SqlSecondFactors
    ended_credentials: SqlEndedCredentials
    personal_tokens: SqlPersonalTokens
    oauth_clients: SqlOAuthClients
    authorization_codes: SqlAuthorizationCodes
    organisations: SqlOrganisations
    members: SqlMembers
    invitations: SqlInvitations
    audit: SqlAudit
    audit_chain: SqlAuditChain
    mails: SqlMails
    mailed_proofs: SqlMailedProofs
    erasures: SqlErasures

    def __init__(self, database: Database, news: News, keys: SigningKeySource) -> None:
        super().__init__(database)
        self._news = news
        self._keys = keys

    def open_repositories(self) -> None:
        self.users = SqlUsers(self.connection)
        self.ended_credentials = SqlEndedCredentials(self.connection)
        self.authorization_codes = SqlAuthorizationCodes(self.connection)
        self.sign_ins = SqlSignIns(
            self.connection, self.ended_credentials, self.authorization_codes
        )
        self.login_failures = SqlLoginFailures(self.connection)
        self.second_factors = SqlSecondFactors(self.connection, self._keys)
        self.personal_tokens = SqlPersonalTokens(self.connection, self.ended_credentials)
        self.oauth_clients = SqlOAuthClients(self.connection)
        self.organisations = SqlOrganisations(self.connection)
        self.members = SqlMembers(self.connection)
        self.invitations = SqlInvitations(self.connection)
        self.audit = SqlAudit(self.connection)
        self.audit_chain = SqlAuditChain(self.connection)
        self.mails = SqlMails(self.connection, self._keys, self.publish)
        self.mailed_proofs = SqlMailedProofs(self.connection)
        self.erasures = SqlErasures(self.connection)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if error is None:
            await self._tell_as_good(self.ended_credentials.good_again)
            await self._news.ended_sessions.tell(self.ended_credentials.fresh)
            await self._tell_tiers(self.users.retiered)

    async def _tell_as_good(self, ids: Sequence[UUID]) -> None:
        """What has ended anew meanwhile may have been told first. So whoever has told looks what
        counts now, and tells that."""
        if not ids:
            return
        await self._news.ended_sessions.take_back(ids)
        try:
            async with self._database.connection() as connection:
                ended = await ended_among(connection, ids)
        except Unavailable:
            # Its worker tells all that has ended once more.
            log.warning("told_ends_not_checked", credentials=len(ids))
        else:
            await self._news.ended_sessions.tell(ended)

    async def _tell_tiers(self, tiers: Mapping[UserId, str]) -> None:
        """Of two changes of a user the later one may be told first. So whoever has told looks what
        counts now, and tells that: the last to tell looks after both were committed."""
        for _ in range(_MOST_TELLINGS):
            if not tiers:
                return
            await self._news.current_tiers.tell(tiers)
            try:
                async with self._database.connection() as connection:
                    present = await effective_tiers(connection, tiers)
            except Unavailable:
                break
            tiers = {user: tier for user, tier in present.items() if tier != tiers[user]}
        if tiers:
            log.warning("told_tiers_not_checked", users=len(tiers))
            # Who is gone stays gone.
            await self._news.current_tiers.doubt([u for u, t in tiers.items() if t != NO_TIER])
