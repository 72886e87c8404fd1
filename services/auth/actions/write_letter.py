"""Make a mail into the letter that is sent."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from services.auth.domain import mail_texts
from services.auth.domain.letter import Letter
from services.auth.domain.mail import Mail, MailKind, spelled
from services.auth.domain.mailed_proof import MailedProof, ProofPurpose, ProofToken
from services.auth.domain.ports import UnitOfWork
from services.auth.domain.user import LoginName, User
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

_AN_HOUR = timedelta(hours=1)
# What a stranger can have sent to any address.
_ASKED_FOR_BY_ANYBODY = frozenset(
    {
        MailKind.VERIFY_EMAIL,
        MailKind.CHANGE_EMAIL,
        MailKind.EMAIL_CHANGE_ASKED,
        MailKind.RESET_PASSWORD,
        MailKind.INVITATION,
        # Whoever founds organisations and sits people down in them may take those seats again.
        MailKind.SEAT_LOST,
    }
)


@dataclass(frozen=True, slots=True)
class WriteLetter:
    """Look up what a request must not look up, decide whether there is anything to send, and make
    the token: it exists in the letter alone, and each attempt to send it makes another."""

    public_url: str
    most_per_hour: int
    clock: Clock

    async def __call__(self, work: UnitOfWork, mail: Mail) -> Letter | None:
        """None when there is nothing to send."""
        if mail.kind in _ASKED_FOR_BY_ANYBODY and await self._is_too_much(work, mail):
            return None
        if mail.kind is MailKind.RESET_PASSWORD:
            return await self._reset(work, mail)
        if mail.kind is MailKind.VERIFY_EMAIL:
            return await self._verification(work, mail)
        if mail.kind is MailKind.CHANGE_EMAIL:
            return await self._change(work, mail)
        return self._letter(mail)

    async def _is_too_much(self, work: UnitOfWork, mail: Mail) -> bool:
        if mail.attempts > 1:
            return False  # It was counted.
        subject = f"mail:{mail.kind.value}:{mail.recipient.text}"
        # Half of them, or a stranger who asks for all at once keeps the owner from getting one.
        if network := mail.facts.get("network"):
            most_of_one = (self.most_per_hour + 1) // 2
            if await self._counted(work, f"{subject}:{network}") > most_of_one:
                return True
        return await self._counted(work, subject) > self.most_per_hour

    async def _counted(self, work: UnitOfWork, subject: str) -> int:
        now = self.clock.now()
        return (await work.login_failures.add(subject, now, window_ends_at=now + _AN_HOUR)).count

    async def _reset(self, work: UnitOfWork, mail: Mail) -> Letter | None:
        found = await _with_address(work, mail)
        # Held, here and below: for an account that goes, moves or is locked right now no token is
        # made, and one that is made is voided by what comes after it.
        user = await work.users.hold(found.id) if found else None
        if user is None or user.email != mail.recipient or not user.is_active:
            return None
        return await self._with_token(work, mail, user, ProofPurpose.RESET_PASSWORD)

    async def _verification(self, work: UnitOfWork, mail: Mail) -> Letter | None:
        user = await work.users.hold(_user_id(mail))
        if user is None or user.email != mail.recipient or user.email_verified:
            return None
        if await self._was_sent_lately(work, mail, user):
            return None
        return await self._unless_somebody_has_it(work, mail, user, ProofPurpose.VERIFY_EMAIL)

    async def _change(self, work: UnitOfWork, mail: Mail) -> Letter | None:
        user = await work.users.hold(_user_id(mail))
        if user is None or not user.is_active or await _was_secured_since(work, mail, user):
            return None
        if user.email == mail.recipient and user.email_verified:
            return None
        return await self._unless_somebody_has_it(work, mail, user, ProofPurpose.CHANGE_EMAIL)

    async def _was_sent_lately(self, work: UnitOfWork, mail: Mail, user: User) -> bool:
        pause = timedelta(seconds=int(mail.facts.get("not_within", "0")))
        if not pause or mail.attempts > 1:
            return False
        newest = await work.mailed_proofs.newest_at(user.id, ProofPurpose.VERIFY_EMAIL)
        return newest is not None and self.clock.now() - newest < pause

    async def _unless_somebody_has_it(
        self, work: UnitOfWork, mail: Mail, user: User, purpose: ProofPurpose
    ) -> Letter:
        owner = await _with_address(work, mail)
        if owner is not None and owner.email_verified and owner.id != user.id:
            return self._letter(mail, kind=MailKind.ACCOUNT_EXISTS)
        return await self._with_token(work, mail, user, purpose)

    async def _with_token(
        self, work: UnitOfWork, mail: Mail, user: User, purpose: ProofPurpose
    ) -> Letter:
        token = ProofToken.new()
        await work.mailed_proofs.add(
            MailedProof.issued(token, purpose, user.id, mail.recipient, self.clock.now())
        )
        return self._letter(mail, token=token.text, username=user.username.text)

    def _letter(self, mail: Mail, *, kind: MailKind | None = None, **facts: str) -> Letter:
        known = {**mail.facts, **facts}
        return mail_texts.letter(mail.id, kind or mail.kind, mail.recipient, known, self.public_url)


def _user_id(mail: Mail) -> UserId:
    return UserId(UUID(mail.facts["user_id"]))


async def _was_secured_since(work: UnitOfWork, mail: Mail, user: User) -> bool:
    """Whoever asked may be the one against whom the owner has done it."""
    if user.password_changed_at > mail.created_at:
        return True
    since = spelled(await work.second_factors.active_since(user.id))
    return mail.facts.get("factor_since", since) != since


async def _with_address(work: UnitOfWork, mail: Mail) -> User | None:
    return await work.users.named(
        LoginName(email=mail.recipient, username=None, spelling=mail.recipient.text)
    )
