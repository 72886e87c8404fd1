"""Exchange a refresh token for the next pair."""

from __future__ import annotations

from services.auth.actions._find_client import find_client
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import RefreshRefused, RefreshReused, SignInUndone
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.origin import NOWHERE, Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.refresh_token import RefreshToken
from services.auth.domain.sign_in import EndReason, SignIn, SignInLifetimes, Verdict
from services.auth.domain.token_pair import TokenIssuer, TokenPair
from services.auth.domain.user import User
from shared.clock import Clock
from shared.errors import ExpectedFailure
from shared.ids import uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Refresh:
    """Rotate: each refresh token is good once, and a second use of an old one ends its sign-in."""

    unit_of_work: NewUnitOfWork
    issuer: TokenIssuer
    lifetimes: SignInLifetimes
    clock: Clock

    async def __call__(
        self, refresh_token: str, origin: Origin = NOWHERE, *, client_id: str | None = None
    ) -> TokenPair:
        """A sign-in goes on where it began: with the client that began it, or with none.

        Raises RefreshRefused, RefreshReused, SignInUndone, UnknownClient or
        SigningKeysUnavailable.
        """
        self.issuer.keys.current()
        token = RefreshToken.parse(refresh_token)
        async with self.unit_of_work() as work:
            if client_id is not None:
                await find_client(work, client_id)
            outcome = await self._exchange(work, token, origin, client_id)
        # Only now: an exception inside would have undone the end of the sign-in.
        if isinstance(outcome, ExpectedFailure):
            raise outcome
        return outcome

    async def _exchange(
        self, work: UnitOfWork, token: RefreshToken, origin: Origin, client_id: str | None
    ) -> TokenPair | RefreshReused | SignInUndone:
        overtaken = False
        while True:
            sign_in, user = await self._behind(work, token, client_id)
            now = self.clock.now()
            # Whoever saw the token good came with who was faster, however long both then waited.
            came_at = sign_in.rotated_at if overtaken else now
            verdict = sign_in.verdict_on(token.counter, came_at, self.lifetimes)
            if verdict is Verdict.REUSED:
                await self._end_reused(work, sign_in, user, origin)
                return RefreshReused()
            if verdict is Verdict.AHEAD:
                await self._end_undone(work, sign_in, user, origin)
                return SignInUndone()
            if verdict is Verdict.REPEAT:
                return self.issuer.pair(user, sign_in, now)
            rotated = sign_in.rotated(now, self.lifetimes)
            if await work.sign_ins.advance(rotated):
                return self.issuer.pair(user, rotated, now)
            # Somebody was faster with the same token: judge it anew against what they left.
            overtaken = True

    async def _end_reused(
        self, work: UnitOfWork, sign_in: SignIn, user: User, origin: Origin
    ) -> None:
        now = self.clock.now()
        if not await work.sign_ins.end(sign_in.id, EndReason.REFRESH_REUSED, now):
            return
        # Nobody can tell whether its owner or a thief came second.
        nobody, facts = None, {"sign_in_id": str(sign_in.id)}
        entry = AuditEntry(
            uuid7(), now, "sign_in.reused", user.id, nobody, facts=facts, origin=origin
        )
        await work.audit.note(entry)
        # Whoever claims an address of somebody else must not be able to fill its mailbox.
        if user.email_verified:
            mail = Mail.make(MailKind.REFRESH_REUSED, user.email, now, device=sign_in.device)
            await work.mails.add(mail)

    async def _end_undone(
        self, work: UnitOfWork, sign_in: SignIn, user: User, origin: Origin
    ) -> None:
        """Quietly: after a restore this comes of every device that was in use."""
        now = self.clock.now()
        if not await work.sign_ins.end(sign_in.id, EndReason.RESTORED, now):
            return
        facts = {"sign_in_id": str(sign_in.id), "reason": EndReason.RESTORED.value}
        entry = AuditEntry(uuid7(), now, "sign_in.ended", user.id, None, facts=facts, origin=origin)
        await work.audit.note(entry)

    async def _behind(
        self, work: UnitOfWork, token: RefreshToken, client_id: str | None
    ) -> tuple[SignIn, User]:
        sign_in = await work.sign_ins.get(token.sign_in_id)
        if sign_in is None or not sign_in.is_live(self.clock.now()):
            raise RefreshRefused
        pepper = self.issuer.keys.current().pepper(sign_in.pepper_version)
        if not token.is_genuine(sign_in, pepper) or sign_in.client_id != client_id:
            raise RefreshRefused
        user = await work.users.get(sign_in.user_id)
        if user is None or not user.is_active:
            raise RefreshRefused
        return sign_in, user
