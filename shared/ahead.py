"""A call to a vendor that has begun while its hold is being written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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


T = TypeVar("T")


class Meanwhile(Generic[T]):
    """Work that is done while its owner waits for an answer from elsewhere: once what they send
    first is on its way, at the latest when it is asked for."""

    __slots__ = ("_failure", "_made", "_work")

    def __init__(self, work: Callable[[], T]) -> None:
        self._work: Callable[[], T] | None = work
        self._made: list[T] = []
        self._failure: Exception | None = None
        # What is written in this turn of the loop goes out at its end, and so before the next.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._do)

    def result(self) -> T:
        """What it made. Raises what it failed with."""
        self._do()
        if self._failure is not None:
            raise self._failure
        return self._made[0]

    def leave(self) -> None:
        """It is needed no more."""
        self._work = None

    def _do(self) -> None:
        work, self._work = self._work, None
        if work is None:
            return
        try:
            self._made.append(work())
        except Exception as failure:  # told to whoever asks for it
            self._failure = failure
