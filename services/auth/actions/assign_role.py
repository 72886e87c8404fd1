"""Say what somebody is to this installation."""

from __future__ import annotations

from services.auth.actions._hold_account import hold_account
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import AddressUnproven
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.personal_token import MOST_LIVE_TOKENS
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.sign_in import EndReason
from services.auth.domain.user import Role, User
from shared.clock import Clock
from shared.ids import uuid7
from shared.scopes import grantable
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AssignRole:
    """Give an account a role or take it away, from the console; no HTTP door leads here.

    Tokens tell the old role, so every sign-in ends. Whoever becomes staff has proven their address:
    anybody may open an account in the name of somebody whom an operator knows.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, login: str, role: Role) -> None:
        """Raises NoSuchAccount, AddressClaimed or AddressUnproven."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            user = await hold_account(work, login)
            if role is not Role.MEMBER and not user.email_verified:
                raise AddressUnproven
            await work.users.save(user.with_role(role, now))
            await work.sign_ins.end_all_of(user.id, EndReason.ROLE_CHANGED, now)
            await self._end_what_it_may_not(work, user, role)
            facts = {"role": role.value, "before": user.role.value}
            entry = AuditEntry(uuid7(), now, "role.assigned", user.id, None, facts=facts)
            await work.audit.note(entry)
            if user.email_verified:
                await work.mails.add(Mail.about(MailKind.ROLE_CHANGED, user, now), to=user)

    async def _end_what_it_may_not(self, work: UnitOfWork, user: User, role: Role) -> None:
        """Personal tokens lose what the new role can't grant with their next use; what stands for
        one until then ends now. Those that lose nothing by it have not ended."""
        now = self.clock.now()
        tokens = await work.personal_tokens.hold_live_of(user.id, now, most=MOST_LIVE_TOKENS)
        losing = {token.id for token in tokens if token.scopes - grantable(role)}
        await work.ended_credentials.add(losing, of=user.id, at=now)
        if user.is_active:
            await work.ended_credentials.take_back({token.id for token in tokens} - losing)
