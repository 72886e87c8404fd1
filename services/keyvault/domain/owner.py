"""Whose keys they are."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class Owner:
    """Who stored a key and may withdraw it. The type is part of every seal."""

    type: str
    id: UUID

    @classmethod
    def user(cls, id_: UserId) -> Owner:
        """A person, for themselves."""
        return cls("user", id_)
