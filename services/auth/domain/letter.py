"""A mail as it is sent: written out, with its subject."""

from __future__ import annotations

from dataclasses import field
from uuid import UUID

from services.auth.domain.user import EmailAddress
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Letter:
    """`id` is that of the mail: a letter that is sent twice says so to whoever sorts them."""

    id: UUID
    kind: str
    recipient: EmailAddress
    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)


class NotDelivered(Exception):
    """The letter did not go out; a later attempt may fare better."""

    def __init__(self, reason: str, *, server_is_away: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        # Then there is no use in trying other letters now.
        self.server_is_away = server_is_away


class Undeliverable(Exception):
    """The letter will never go out: the server has refused it for good."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
