"""Mails that wait to be sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.auth.domain.mail import Mail, MailKind, UnreadableMail
from services.auth.domain.ports import SigningKeySource
from services.auth.domain.sealing import Sealer, Unsealable
from services.auth.domain.user import EmailAddress, User
from shared.db.database import Connection
from shared.events import Event
from shared.events.mail import MailQueued
from shared.tiers import DEFAULT_TIER

_PURPOSE = "mail"
_KINDS = frozenset(MailKind)
_ADD = """
insert into outgoing_mail (id, kind, recipient, sealed_facts, created_at, attempts, due_at)
values ($1, $2, $3, $4, $5, $6, $5)
"""
_ADD_ALL = """
insert into outgoing_mail (id, kind, recipient, sealed_facts, created_at, attempts, due_at)
select id, kind, recipient, sealed_facts, created_at, attempts, created_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[], $6::int[])
    as given (id, kind, recipient, sealed_facts, created_at, attempts)
"""
_DUE = "select id from outgoing_mail where due_at <= $1 order by due_at limit $2"
# Whoever comes second while it is being sent finds it not due; whoever is left of a crash is due
# again at the end of the lease. No transaction stays open while a server is talked to.
_CLAIM = """
update outgoing_mail set attempts = attempts + 1, due_at = $3 where id in (
    select id from outgoing_mail where id = $1 and due_at <= $2 for update skip locked
) returning id, kind, recipient, sealed_facts, created_at, attempts
"""
_POSTPONE = "update outgoing_mail set due_at = $2 where id = $1"
_REMOVE = "delete from outgoing_mail where id = $1"


class Publish(Protocol):
    """How a unit of work tells of an event."""

    def __call__(self, event: Event, *, subject: UUID, tier: str) -> None: ...


class SqlMails:
    """The repository of mails. What they say is sealed: it may let its reader into an account."""

    def __init__(self, connection: Connection, keys: SigningKeySource, publish: Publish) -> None:
        self._connection = connection
        self._keys = keys
        self._publish = publish

    async def add(self, mail: Mail, *, to: User | None = None) -> None:
        await self._connection.execute(_ADD, *_row(mail, self._sealer()))
        self._tell(mail, to)

    async def add_all(self, mails: Sequence[tuple[Mail, User]]) -> None:
        if not mails:
            return
        sealer = self._sealer()
        rows = zip(*(_row(mail, sealer) for mail, _ in mails), strict=True)
        await self._connection.execute(_ADD_ALL, *map(list, rows))
        for mail, to in mails:
            self._tell(mail, to)

    async def due(self, at: datetime, *, most: int) -> Sequence[UUID]:
        return [row["id"] for row in await self._connection.fetch(_DUE, at, most)]

    async def claim(self, mail_id: UUID, at: datetime, *, until: datetime) -> Mail | None:
        row = await self._connection.fetchrow(_CLAIM, mail_id, at, until)
        # The web process of a newer release may queue what its worker alone knows: that waits.
        if row is None or row["kind"] not in _KINDS:
            return None
        try:
            facts = self._sealer().open(_PURPOSE, mail_id, row["sealed_facts"])
        except Unsealable as error:
            raise UnreadableMail(mail_id) from error
        return Mail(
            id=row["id"],
            kind=MailKind(row["kind"]),
            recipient=EmailAddress(row["recipient"]),
            facts=json.loads(facts),
            created_at=row["created_at"],
            attempts=row["attempts"],
        )

    async def postpone(self, mail_id: UUID, until: datetime) -> None:
        await self._connection.execute(_POSTPONE, mail_id, until)

    async def remove(self, mail_id: UUID) -> None:
        await self._connection.execute(_REMOVE, mail_id)

    def _tell(self, mail: Mail, to: User | None) -> None:
        self._publish(
            MailQueued(mail_id=mail.id),
            subject=to.id if to else mail.id,
            tier=to.tier if to else DEFAULT_TIER.name,
        )

    def _sealer(self) -> Sealer:
        return Sealer(self._keys.current().sealing_keys)


def _row(mail: Mail, sealer: Sealer) -> tuple[object, ...]:
    facts = json.dumps(dict(mail.facts)).encode()
    return (
        mail.id,
        mail.kind.value,
        mail.recipient.text,
        sealer.seal(_PURPOSE, mail.id, facts),
        mail.created_at,
        mail.attempts,
    )
