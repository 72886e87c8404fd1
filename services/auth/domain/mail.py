"""A mail that is to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self
from uuid import UUID

from services.auth.domain.origin import NOWHERE, Origin
from services.auth.domain.user import EmailAddress, User
from shared.ids import uuid7
from shared.values import dataclass


class MailKind(StrEnum):
    """What a mail is for; each has its text."""

    VERIFY_EMAIL = "verify_email"
    ACCOUNT_EXISTS = "account_exists"
    CHANGE_EMAIL = "change_email"
    EMAIL_CHANGE_ASKED = "email_change_asked"
    EMAIL_CHANGED = "email_changed"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a kind of mail
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    REFRESH_REUSED = "refresh_reused"
    INVITATION = "invitation"
    NEW_FACTOR = "new_factor"
    FACTOR_REMOVED = "factor_removed"
    ACCOUNT_DISABLED = "account_disabled"
    ACCOUNT_ENABLED = "account_enabled"
    ROLE_CHANGED = "role_changed"
    SEAT_LOST = "seat_lost"
    PAYMENT_DUE = "payment_due"
    PAYMENT_OVERDUE = "payment_overdue"
    TIER_ENDED = "tier_ended"
    LIMIT_REACHED = "limit_reached"
    SPEND_REACHED = "spend_reached"
    WEBHOOK_DISABLED = "webhook_disabled"


def spelled(moment: datetime | None) -> str:
    """A moment as a fact of a mail; empty for none."""
    return moment.isoformat() if moment else ""


class UnreadableMail(Exception):
    """The key that sealed this mail is gone, and what it says with it."""

    def __init__(self, mail_id: UUID) -> None:
        super().__init__(str(mail_id))
        self.mail_id = mail_id


@dataclass(frozen=True, slots=True)
class Mail:
    """`facts` fill in the text; they may hold a secret, such as the token of a link."""

    id: UUID
    kind: MailKind
    recipient: EmailAddress
    facts: Mapping[str, str] = field(repr=False)
    created_at: datetime
    attempts: int = 0

    @classmethod
    def make(cls, kind: MailKind, recipient: EmailAddress, at: datetime, **facts: str) -> Self:
        return cls(uuid7(), kind, recipient, facts, at)

    @classmethod
    def about(cls, kind: MailKind, user: User, at: datetime, origin: Origin = NOWHERE) -> Self:
        """To a user, about what happened to their account, and from where it was done."""
        return cls.make(
            kind,
            user.email,
            at,
            username=user.username.text,
            device=origin.device,
            address=origin.address,
        )

    @classmethod
    def with_proof(
        cls,
        kind: MailKind,
        user: User,
        at: datetime,
        *,
        recipient: EmailAddress | None = None,
        not_within: timedelta = timedelta(0),
        factor_since: datetime | None = None,
    ) -> Self:
        """One whose token is made when it is sent, so that it is kept nowhere.

        `not_within`: nothing is sent if the last such mail is younger. `factor_since`: since when
        the user has their second factor; if that has changed, no token that moves the account.
        """
        return cls.make(
            kind,
            recipient or user.email,
            at,
            user_id=str(user.id),
            not_within=str(int(not_within.total_seconds())),
            factor_since=spelled(factor_since),
        )
