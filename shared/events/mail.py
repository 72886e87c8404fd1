"""`mail.*`: mails that auth sends to its users. Published by auth, for itself."""

from __future__ import annotations

from uuid import UUID

from shared.events.base import Event


class MailQueued(Event):
    """A mail waits in auth's database. What it says stands there alone, sealed."""

    type = "mail.queued"

    mail_id: UUID
