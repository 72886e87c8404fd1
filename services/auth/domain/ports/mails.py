"""Where mails and the proofs in them are kept, and who hands them on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.auth.domain.letter import Letter
from services.auth.domain.mail import Mail
from services.auth.domain.mailed_proof import MailedProof, ProofPurpose
from services.auth.domain.user import EmailAddress, User
from shared.ids import UserId


class Mails(Protocol):
    """Mails that wait to be sent."""

    async def add(self, mail: Mail, *, to: User | None = None) -> None:
        """Queue it and tell our worker; `to` is its reader, where that is a user already."""
        ...

    async def add_all(self, mails: Sequence[tuple[Mail, User]]) -> None:
        """Many at once, each to a user."""
        ...

    async def due(self, at: datetime, *, most: int) -> Sequence[UUID]:
        """Ids of mails that are due by then: who waits longest first."""
        ...

    async def claim(self, mail_id: UUID, at: datetime, *, until: datetime) -> Mail | None:
        """Have a mail that is due for oneself until then; None if somebody else has it.

        Raises UnreadableMail.
        """
        ...

    async def postpone(self, mail_id: UUID, until: datetime) -> None:
        """Give a claimed mail back: it is due again from then on."""
        ...

    async def remove(self, mail_id: UUID) -> None:
        """It was handed on, or is given up."""
        ...


class MailedProofs(Protocol):
    """Tokens that were mailed, by their hashes."""

    async def add(self, proof: MailedProof) -> None:
        """Older ones of the same user and purpose are void from now on."""
        ...

    async def find(
        self, token_hash: bytes, purposes: Collection[ProofPurpose], at: datetime
    ) -> MailedProof | None:
        """One that is still good, which it stays."""
        ...

    async def take(
        self, token_hash: bytes, purposes: Collection[ProofPurpose], at: datetime
    ) -> MailedProof | None:
        """Use one up. Of two who try at once, one gets it."""
        ...

    async def void(self, user_id: UserId, purposes: Collection[ProofPurpose], at: datetime) -> None:
        """Those of a user that are still good are used up."""
        ...

    async def pending_address(self, user_id: UserId, at: datetime) -> EmailAddress | None:
        """The one that waits for its user to prove it."""
        ...

    async def newest_at(self, user_id: UserId, purpose: ProofPurpose) -> datetime | None:
        """When the newest was made, also of those that are used up; None if none is kept."""
        ...

    async def forget_before(self, at: datetime, *, most: int) -> int:
        """Delete some that had expired by then; answers how many."""
        ...


class Mailer(Protocol):
    """Hands letters on."""

    async def send(self, letter: Letter) -> None:
        """Raises NotDelivered or Undeliverable."""
        ...
