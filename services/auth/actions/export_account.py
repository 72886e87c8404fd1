"""Everything that the suite keeps about a user, in one document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from services.auth.actions.read_audit import ReadAudit
from services.auth.domain.audit import AuditEntry
from services.auth.domain.organisation import Invitation, InvitationId
from services.auth.domain.personal_token import PersonalToken, PersonalTokenId
from services.auth.domain.ports import AccountCollector, CollectedAccount, NewUnitOfWork
from services.auth.domain.sign_in import SignIn, SignInId
from services.auth.domain.user import EmailAddress
from shared.clock import Clock
from shared.ids import UserId
from shared.page_by_page import page_by_page
from shared.values import dataclass

_PAGE = 500


@dataclass(frozen=True, slots=True)
class ExportAccount:
    """Collect what each service keeps before a single byte is answered: whole or not at all.

    What auth itself keeps is read page by page, so that no transaction waits for a slow reader.
    """

    unit_of_work: NewUnitOfWork
    collector: AccountCollector
    read_audit: ReadAudit
    clock: Clock

    async def __call__(self, user_id: UserId, own: AsyncIterator[bytes]) -> CollectedAccount:
        """`own`: auth's part as JSON. Raises ExportUnavailable."""
        collected = await self.collector.collect(user_id, own, at=self.clock.now())
        async with self.unit_of_work() as work:
            await work.audit.note(AuditEntry.of_user("account.exported", user_id, self.clock.now()))
        return collected

    def sign_ins(self, user_id: UserId) -> AsyncIterator[Sequence[SignIn]]:
        """Those, too, that are over and not yet forgotten."""

        async def read(before: SignInId | None) -> Sequence[SignIn]:
            async with self.unit_of_work() as work:
                return await work.sign_ins.kept_of(user_id, before=before, most=_PAGE)

        return page_by_page(read, _PAGE)

    def personal_tokens(self, user_id: UserId) -> AsyncIterator[Sequence[PersonalToken]]:
        """Those, too, that are over and not yet forgotten."""

        async def read(before: PersonalTokenId | None) -> Sequence[PersonalToken]:
            async with self.unit_of_work() as work:
                return await work.personal_tokens.kept_of(user_id, before=before, most=_PAGE)

        return page_by_page(read, _PAGE)

    def invitations(self, user_id: UserId) -> AsyncIterator[Sequence[Invitation]]:
        """Those that the user sent or accepted, and those to their proven address."""

        async def read(before: InvitationId | None) -> Sequence[Invitation]:
            async with self.unit_of_work() as work:
                user = await work.users.get(user_id)
                email = user.email if user is not None and user.email_verified else None
                return await work.invitations.concerning(user_id, email, before=before, most=_PAGE)

        return page_by_page(read, _PAGE)

    async def pending_address(self, user_id: UserId) -> EmailAddress | None:
        """The address that waits for the user to prove it."""
        async with self.unit_of_work() as work:
            return await work.mailed_proofs.pending_address(user_id, self.clock.now())

    def trail(self, user_id: UserId) -> AsyncIterator[Sequence[AuditEntry]]:
        async def read(before: UUID | None) -> Sequence[AuditEntry]:
            return await self.read_audit(user_id, before=before, most=_PAGE)

        return page_by_page(read, _PAGE)

    def acts(self, user_id: UserId) -> AsyncIterator[Sequence[AuditEntry]]:
        """What the user did to others, or where nobody was concerned."""

        async def read(before: UUID | None) -> Sequence[AuditEntry]:
            return await self.read_audit.acts(user_id, before=before, most=_PAGE)

        return page_by_page(read, _PAGE)
