"""A call to a vendor that has begun while its hold is being written."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from shared.revocation import KeyOfCall
from shared.values import dataclass


class Leavable(Protocol):
    """A call that has begun and that nobody can work on yet."""

    def leave(self) -> None:
        """Break it off, unless somebody went on with it."""
        ...


C = TypeVar("C", bound=Leavable)


@dataclass(frozen=True, slots=True)
class Ahead(Generic[C]):
    """Good unless a key was withdrawn since: keyvault was asked before that, and nobody ends what
    is not known to run yet. `withdrawals` is how many were heard of when it began."""

    call: C
    key: KeyOfCall
    withdrawals: int

    def unless_withdrawn(self, withdrawals: int) -> Ahead[C] | None:
        """Itself, to be gone on with; it is broken off where more were heard of by now."""
        if withdrawals == self.withdrawals:
            return self
        self.leave()
        return None

    def leave(self) -> None:
        """Break it off, unless somebody went on with it."""
        self.call.leave()
