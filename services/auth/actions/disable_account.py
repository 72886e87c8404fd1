"""Lock an account, and let its owner in again."""

from __future__ import annotations

from services.auth.actions._hold_account import hold_account
from services.auth.domain.audit import AuditEntry
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.mailed_proof import EVERY_PURPOSE
from services.auth.domain.personal_token import MOST_LIVE_TOKENS
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.sign_in import EndReason
from shared.clock import Clock
from shared.ids import uuid7
from shared.scopes import grantable
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class DisableAccount:
    """Let nobody in with an account any more, from the console; no HTTP door leads here.

    What was signed in ends at once, personal tokens are good for nothing, and mails that would open
    the account are void. Nothing is deleted.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, login: str) -> None:
        """Raises NoSuchAccount or AddressClaimed."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            user = await hold_account(work, login)
            await work.users.save(user.disabled(now))
            await work.sign_ins.end_all_of(user.id, EndReason.ACCOUNT_DISABLED, now)
            tokens = await work.personal_tokens.hold_live_of(user.id, now, most=MOST_LIVE_TOKENS)
            await work.ended_credentials.add([token.id for token in tokens], of=user.id, at=now)
            await work.users.note_tiers([user.id])
            await work.mailed_proofs.void(user.id, EVERY_PURPOSE, now)
            await work.audit.note(AuditEntry(uuid7(), now, "account.disabled", user.id, None))
            # An address that was never proven may be a stranger's.
            if user.email_verified:
                await work.mails.add(Mail.about(MailKind.ACCOUNT_DISABLED, user, now), to=user)


@dataclass(frozen=True, slots=True)
class EnableAccount:
    """Let its owner in again, from the console.

    What was signed in stays out. Personal tokens are good at once, also for what looks whether they
    have ended; not those that hold a scope which their owner's role has lost, until what stood for
    them is over.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, login: str) -> None:
        """Raises NoSuchAccount or AddressClaimed."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            user = await hold_account(work, login)
            await work.users.save(user.enabled(now))
            tokens = await work.personal_tokens.hold_live_of(user.id, now, most=MOST_LIVE_TOKENS)
            await work.ended_credentials.take_back(
                [token.id for token in tokens if token.scopes <= grantable(user.role)]
            )
            await work.users.note_tiers([user.id])
            await work.audit.note(AuditEntry(uuid7(), now, "account.enabled", user.id, None))
            if user.email_verified:
                await work.mails.add(Mail.about(MailKind.ACCOUNT_ENABLED, user, now), to=user)
