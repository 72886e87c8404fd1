"""Mails and proofs kept in memory, and how a person reads their mail."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from services.auth.domain.letter import Letter
from services.auth.domain.mail import Mail
from services.auth.domain.mailed_proof import MailedProof, ProofPurpose
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, check_strength
from services.auth.domain.user import EmailAddress, User, Username
from shared.ids import UserId

if TYPE_CHECKING:
    from tests.support.auth import Memory

_TOKEN = re.compile(r"[#?]token=([\w-]+)")


class MemoryMails:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def add(self, mail: Mail, *, to: User | None = None) -> None:
        self._memory.mails.append(mail)

    async def add_all(self, mails: Sequence[tuple[Mail, User]]) -> None:
        for mail, to in mails:
            await self.add(mail, to=to)

    async def due(self, at: datetime, *, most: int) -> Sequence[UUID]:
        return [mail.id for mail in self._memory.mails if self._due_at(mail) <= at][:most]

    async def claim(self, mail_id: UUID, at: datetime, *, until: datetime) -> Mail | None:
        for index, mail in enumerate(self._memory.mails):
            if mail.id == mail_id and self._due_at(mail) <= at:
                claimed = replace(mail, attempts=mail.attempts + 1)
                self._memory.mails[index] = claimed
                self._memory.mails_due[mail_id] = until
                return claimed
        return None

    async def postpone(self, mail_id: UUID, until: datetime) -> None:
        self._memory.mails_due[mail_id] = until

    async def remove(self, mail_id: UUID) -> None:
        self._memory.mails[:] = [mail for mail in self._memory.mails if mail.id != mail_id]

    def _due_at(self, mail: Mail) -> datetime:
        return self._memory.mails_due.get(mail.id, mail.created_at)


class MemoryMailedProofs:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def add(self, proof: MailedProof) -> None:
        await self.void(proof.user_id, {proof.purpose}, proof.created_at)
        self._memory.proofs[proof.token_hash] = proof

    async def find(
        self, token_hash: bytes, purposes: Collection[ProofPurpose], at: datetime
    ) -> MailedProof | None:
        proof = self._memory.proofs.get(token_hash)
        if proof is None or proof.purpose not in purposes or proof.expires_at <= at:
            return None
        return None if token_hash in self._memory.used_proofs else proof

    async def take(
        self, token_hash: bytes, purposes: Collection[ProofPurpose], at: datetime
    ) -> MailedProof | None:
        proof = await self.find(token_hash, purposes, at)
        if proof is not None:
            self._memory.used_proofs.add(token_hash)
        return proof

    async def void(self, user_id: UserId, purposes: Collection[ProofPurpose], at: datetime) -> None:
        for proof in self._memory.proofs.values():
            if proof.user_id == user_id and proof.purpose in purposes:
                self._memory.used_proofs.add(proof.token_hash)

    async def pending_address(self, user_id: UserId, at: datetime) -> EmailAddress | None:
        for token_hash, proof in self._memory.proofs.items():
            is_open = token_hash not in self._memory.used_proofs and proof.expires_at > at
            if is_open and (proof.user_id, proof.purpose) == (user_id, ProofPurpose.CHANGE_EMAIL):
                return proof.email
        return None

    async def newest_at(self, user_id: UserId, purpose: ProofPurpose) -> datetime | None:
        all_of_user = [
            proof.created_at
            for proof in self._memory.proofs.values()
            if proof.user_id == user_id and proof.purpose is purpose
        ]
        return max(all_of_user, default=None)

    async def forget_before(self, at: datetime, *, most: int) -> int:
        over = [h for h, proof in self._memory.proofs.items() if proof.expires_at < at][:most]
        for token_hash in over:
            del self._memory.proofs[token_hash]
        return len(over)


class PlainRules:
    """The rules without the estimate, which is tested by itself."""

    async def check(
        self, password: Password, *, email: EmailAddress, username: Username, origin: Origin
    ) -> None:
        check_strength(password, email_local_part=email.local_part, username=username.text)


@dataclass
class KeptLetters:
    """A mailer that keeps what it is given, or fails as told, once per failure."""

    letters: list[Letter] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    async def send(self, letter: Letter) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.letters.append(letter)


def token_in(text: str) -> str:
    """The token of the link in a mail."""
    found = _TOKEN.search(text)
    assert found is not None, text
    return found[1]


def mails_to(folder: Path, address: str) -> list[EmailMessage]:
    """What lies in a mail folder for somebody, the oldest first."""
    found = [
        message_from_bytes(path.read_bytes(), policy=policy.default)
        for path in sorted(folder.glob("*.eml"))
    ]
    return [mail for mail in found if isinstance(mail, EmailMessage) and mail["To"] == address]


def text_of(mail: EmailMessage) -> str:
    """Its plain text."""
    body = mail.get_body(preferencelist=("plain",))
    assert body is not None
    return str(body.get_content())
