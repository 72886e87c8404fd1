"""The news of revoked keys, kept in a list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from shared.revocation import Revocation


class HeardRevocations:
    """Whatever was announced."""

    def __init__(self) -> None:
        self.said: list[Revocation] = []

    async def announce(self, revocations: Sequence[Revocation]) -> None:
        self.said += revocations

    async def heard(self) -> AsyncIterator[Revocation]:
        for revocation in self.said:
            yield revocation
