"""Whose keys they are."""

from __future__ import annotations

from uuid import UUID

from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """Who stored a key and may withdraw it. The type is part of every seal."""

    type: str
    id: UUID

    @classmethod
    def user(cls, id_: UserId) -> Owner:
        """A person, for themselves."""
        return cls("user", id_)

    @classmethod
    def organisation(cls, id_: UUID) -> Owner:
        """People who share a subscription: some of them store its keys, whoever has a seat uses
        them."""
        return cls("organisation", id_)

    @property
    def user_id(self) -> UserId | None:
        """Which person it is, None for an organisation."""
        return UserId(self.id) if self.type == "user" else None

    @property
    def organisation_id(self) -> UUID | None:
        """Which organisation it is, None for a person."""
        return self.id if self.type == "organisation" else None
