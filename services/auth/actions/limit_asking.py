"""Count what anybody may ask for, by where they ask from."""

from __future__ import annotations

from services.auth.domain.attempts import AskingLimit
from services.auth.domain.errors import UnknownClientAddress
from services.auth.domain.origin import Origin
from services.auth.domain.ports import UnitOfWork
from shared.clock import Clock
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class LimitAsking:
    """So often may one network ask for `what`: each time costs us work, a row, or a mail to
    somebody who has not asked for it."""

    what: str
    limit: AskingLimit
    clock: Clock

    async def __call__(self, work: UnitOfWork, origin: Origin) -> None:
        """Look, then count: who is refused writes nothing and waits for nobody.

        Raises TooManyAttempts or UnknownClientAddress.
        """
        await self.check(work, origin)
        await self.count(work, origin)

    async def check(self, work: UnitOfWork, origin: Origin) -> None:
        """Raises TooManyAttempts; UnknownClientAddress, since who can't be counted has no limit."""
        if not origin.is_known:
            raise UnknownClientAddress
        self.limit.check(await work.login_failures.of(self._subject(origin)), self.clock.now())

    async def count(self, work: UnitOfWork, origin: Origin) -> None:
        """Count one more. Raises TooManyAttempts for the surplus of those who looked together."""
        now = self.clock.now()
        asked = await work.login_failures.add(
            self._subject(origin), now, window_ends_at=now + self.limit.window
        )
        self.limit.check_counted(asked, now)

    def _subject(self, origin: Origin) -> str:
        return f"{self.what}:{origin.network}"
