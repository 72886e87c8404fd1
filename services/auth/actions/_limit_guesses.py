"""Count wrong guesses, and let nobody guess who has to wait.

Only failures write, and only they lock: a sign-in that succeeds meets no row that others share.
"""

from __future__ import annotations

from services.auth.domain.attempts import EVERYBODY, AttemptLimit, GuessLimits, failures_from
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import UnknownClientAddress
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.ids import UserId, uuid7
from shared.values import dataclass


async def check_late(work: UnitOfWork, subject: str, limit: AttemptLimit, clock: Clock) -> None:
    """Look at a subject once more and let nobody count on it until this unit of work ends.

    Of many guesses in parallel all pass the first look; a late right one must not be told.
    """
    limit.check(await work.login_failures.hold(subject), clock.now())


async def count_failure(work: UnitOfWork, subject: str, limit: AttemptLimit, clock: Clock) -> None:
    """Count one more. Raises TooManyAttempts when others made the subject wait meanwhile: of
    guesses in parallel the surplus learns nothing."""
    known = await work.login_failures.hold(subject)
    now = clock.now()
    limit.check(known, now)
    await work.login_failures.save(subject, limit.after_one_more(known, now))


@dataclass(frozen=True, slots=True)
class LimitGuesses:
    """The limits on strangers, who are known by what they guess at and from where."""

    unit_of_work: NewUnitOfWork
    limits: GuessLimits
    clock: Clock

    async def check(self, work: UnitOfWork, subject: str, origin: Origin) -> None:
        """Raises TooManyAttempts; UnknownClientAddress, since who can't be counted has no limit."""
        if not origin.is_known:
            raise UnknownClientAddress
        network, now = failures_from(origin.network), self.clock.now()
        known = await work.login_failures.of_all([subject, network, EVERYBODY])
        self.limits.account.check(known.get(subject), now)
        self.limits.network.check(known.get(network), now)
        self.limits.everybody.check(known.get(EVERYBODY), now)

    async def check_late(self, work: UnitOfWork, subject: str, origin: Origin) -> None:
        """Look once more, before anything is told. Holds the subject, which belongs to one account;
        the counts that all share are only read. Raises TooManyAttempts."""
        await check_late(work, subject, self.limits.account, self.clock)
        network, now = failures_from(origin.network), self.clock.now()
        known = await work.login_failures.of_all([network, EVERYBODY])
        self.limits.network.check(known.get(network), now)
        self.limits.everybody.check(known.get(EVERYBODY), now)

    async def count(self, subject: str, origin: Origin, *, at: UserId | None) -> None:
        """Raises TooManyAttempts; then the failure was not answered, and counts for nobody."""
        async with self.unit_of_work() as work:
            await count_failure(work, subject, self.limits.account, self.clock)
            await self.count_beside(work, origin)
            # For a name that is nobody's as well: it must not be less work. What was typed is not
            # noted, since it may be a password.
            await work.audit.note(
                AuditEntry(uuid7(), self.clock.now(), "sign_in.failed", at, None, origin=origin)
            )

    async def count_beside(self, work: UnitOfWork, origin: Origin) -> None:
        """Count a failure that has a subject of its own for its network and for everybody, always
        in this order: each waits for who counts there."""
        now = self.clock.now()
        await count_failure(work, failures_from(origin.network), self.limits.network, self.clock)
        everybody = self.limits.everybody
        await work.login_failures.add(EVERYBODY, now, window_ends_at=everybody.window_from(now))
