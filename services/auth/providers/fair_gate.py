"""A door that lets few in, and nobody all alone."""

from __future__ import annotations

from collections import Counter

from services.auth.domain.errors import PasswordsBusy
from services.auth.domain.origin import Origin


class FairGate:
    """So many may be inside; of one network as many as there are places left, so that half of them
    is all that one can have, and somebody from elsewhere finds one."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside: Counter[str] = Counter()

    def refuse_if_full(self, origin: Origin) -> None:
        """Raises PasswordsBusy."""
        if self._inside[origin.network] >= self._places - self._inside.total():
            raise PasswordsBusy

    def enter(self, origin: Origin) -> None:
        """Raises PasswordsBusy."""
        self.refuse_if_full(origin)
        self._inside[origin.network] += 1

    def leave(self, origin: Origin) -> None:
        """Whoever has entered makes room."""
        self._inside[origin.network] -= 1
        if not self._inside[origin.network]:
            del self._inside[origin.network]
