"""State and facts that commit together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from services.auth.domain.ports.accounts import SecondFactors, Users
from services.auth.domain.ports.audit import Audit, AuditChain
from services.auth.domain.ports.erasure import Erasures
from services.auth.domain.ports.mails import MailedProofs, Mails
from services.auth.domain.ports.organisations import Invitations, Members, Organisations
from services.auth.domain.ports.sign_ins import EndedCredentials, LoginFailures, SignIns
from services.auth.domain.ports.tokens import AuthorizationCodes, OAuthClients, PersonalTokens
from shared.events import Event
from shared.ids import EventId


class UnitOfWork(Protocol):
    """State and facts that commit together, on a clean exit.

    What several of them may lock is locked in one order, so that of two nobody waits for the other
    and is waited for: the account, its codes, the client, sign-ins, personal tokens, and then what
    has ended. Of each kind by id; who skips some of it may not come back for it.
    """

    @property
    def users(self) -> Users: ...

    @property
    def sign_ins(self) -> SignIns: ...

    @property
    def login_failures(self) -> LoginFailures: ...

    @property
    def second_factors(self) -> SecondFactors: ...

    @property
    def ended_credentials(self) -> EndedCredentials: ...

    @property
    def personal_tokens(self) -> PersonalTokens: ...

    @property
    def oauth_clients(self) -> OAuthClients: ...

    @property
    def authorization_codes(self) -> AuthorizationCodes: ...

    @property
    def organisations(self) -> Organisations: ...

    @property
    def members(self) -> Members: ...

    @property
    def invitations(self) -> Invitations: ...

    @property
    def audit(self) -> Audit: ...

    @property
    def audit_chain(self) -> AuditChain: ...

    @property
    def mails(self) -> Mails: ...

    @property
    def mailed_proofs(self) -> MailedProofs: ...

    @property
    def erasures(self) -> Erasures: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None: ...

    async def unseen(self, ids: Iterable[EventId]) -> set[EventId]: ...


NewUnitOfWork = Callable[[], AbstractAsyncContextManager[UnitOfWork]]
